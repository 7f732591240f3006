"""Data that is generated here: scenes with captions, and texts for language models."""
