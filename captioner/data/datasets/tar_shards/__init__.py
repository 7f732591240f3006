"""Tar shards (`data=shards`): images and captions read where they lie, in `.tar` files, for what no folder holds.

`members` reads an archive's headers, `index` keeps where each pair lies, `source` makes a data set of it, `image`
reads one image, `packing` writes such shards. Nothing is ever unpacked.
"""
