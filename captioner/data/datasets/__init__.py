"""The data sets: one reader per format, and the registry that loads any of them."""
