"""Tar shards (`data=shards`): captioned images in `.tar` files, for data sets that do not fit into a folder.

`patterns` finds the archives of a split, `tar_archive` reads a file or, by `remote`, one on a server. `members` reads
the headers of an archive, `shard_index` stores the position of each pair, `reader` makes a data set of them,
`tar_image` reads one image, and `pack` writes such shards. Archives are never unpacked.
"""
