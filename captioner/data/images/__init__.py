"""From image files to tensors: decoding, transforms, augmentation, loading."""
