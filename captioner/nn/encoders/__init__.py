"""Encoders: EfficientNet-Lite, torchvision's classification CNNs, timm's networks, and those of plug-ins."""
