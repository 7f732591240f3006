"""Convolutional encoders: EfficientNet-Lite, torchvision's classification CNNs, and those of plug-ins."""
