"""Preprocessing: an RGB image → the tensor that an encoder reads.

Training, evaluation, captioning and the feature cache all call `image_to_tensor`, and its settings are stored in the
checkpoint, so an image is always preprocessed in the same way. Augmentation only selects a part of the image (`View`).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from captioner.config import TransformConfig
from captioner.data.dataset import Box
from captioner.data.images.pixels import FULL_VIEW, View, image_to_array, resize_image

__all__ = ["FULL_VIEW", "View", "image_to_array", "image_to_tensor", "project_box", "resize_image", "tensor_to_image"]


def project_box(box: Box, width: int, height: int, resize: str) -> tuple[float, float, float, float] | None:
    """A bounding box in the coordinates of the encoder's input: left, top, right, bottom as fractions of the square.

    width, height: of the image file; resize: "squash" or "crop". None for a box outside of the central square.
    """
    left, top, right, bottom = 0.0, 0.0, float(width), float(height)
    if resize == "crop":
        side = float(min(width, height))
        left, top = (width - side) / 2, (height - side) / 2
        right, bottom = left + side, top + side
    x = [min(max((at - left) / (right - left), 0.0), 1.0) for at in (box.left, box.left + box.width)]
    y = [min(max((at - top) / (bottom - top), 0.0), 1.0) for at in (box.top, box.top + box.height)]
    return (x[0], y[0], x[1], y[1]) if x[0] < x[1] and y[0] < y[1] else None


def image_to_tensor(image: Image.Image, transform: TransformConfig, view: View = FULL_VIEW) -> Float[Tensor, "3 S S"]:
    """RGB image of any size → (3, S, S) float32: (pixel / 255 − mean) / std per channel."""
    return torch.from_numpy(image_to_array(image, transform, view))


def tensor_to_image(tensor: Float[Tensor, "3 S S"], transform: TransformConfig) -> Image.Image:
    """The inverse of `image_to_tensor`, to show what the encoder saw."""
    mean, std = torch.tensor(transform.mean), torch.tensor(transform.std)
    pixels = ((tensor.permute(1, 2, 0).cpu() * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)
    return Image.fromarray(pixels.numpy())
