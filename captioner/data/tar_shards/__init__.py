"""Tar shards (`data=shards`): pictures and captions read where they lie, in `.tar` files, for what no folder holds.

`members` reads an archive's headers, `index` keeps where each pair lies, `source` makes a data set of it, `picture`
reads one picture, `packing` writes such shards. Nothing is ever unpacked.
"""
