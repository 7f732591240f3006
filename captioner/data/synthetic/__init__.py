"""Generated data: scenes (images with captions and bounding boxes) and texts for the language model."""
