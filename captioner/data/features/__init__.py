"""Encoder features: computed on the fly or read from a cache on disk."""
