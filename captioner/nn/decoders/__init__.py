"""The captioners, one file each, and the language model."""
