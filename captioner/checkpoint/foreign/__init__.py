"""Checkpoints of other captioning projects: read without executing anything, and converted to ours."""
