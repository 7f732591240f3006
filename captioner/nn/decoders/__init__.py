"""The caption decoders, one file each, and the language model."""
