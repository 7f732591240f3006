"""Convolutional encoders: torchvision classification CNNs and EfficientNet-Lite."""
