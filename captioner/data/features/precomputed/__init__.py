"""Features made elsewhere (`data.features`): the files that hold them, their checks, and the source of training.

`region_features` parses the arrays of one image; `numpy_folder`, `hdf5`, `lmdb_file` and `tsv` are the layouts, and
`stores` opens one. `match` finds the features of each image of a data set, `check` reads all of them once, and `source`
gives batches.
"""
