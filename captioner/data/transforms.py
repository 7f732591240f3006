"""The only preprocessing there is: an RGB picture → the tensor an encoder reads.

Training, evaluation, captioning and the feature cache all call `picture_to_tensor`; its settings are
stored in the checkpoint, so a photo is never prepared in two ways.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from captioner.config import TransformConfig

_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def resize_picture(picture: Image.Image, transform: TransformConfig) -> Image.Image:
    """The (size × size) picture that the encoder sees, antialiased.

    "squash" stretches the whole picture; "crop" takes the middle of the picture whose shorter side has
    been resized to `size`, in one step.
    """
    box: tuple[float, float, float, float] | None = None
    if transform.resize == "crop":
        side = min(picture.size)
        left, top = (picture.width - side) / 2, (picture.height - side) / 2
        box = (left, top, left + side, top + side)
    if picture.size == (transform.size, transform.size):
        return picture
    return picture.resize((transform.size, transform.size), _RESAMPLING[transform.interpolation], box=box)


def picture_to_tensor(picture: Image.Image, transform: TransformConfig) -> Float[Tensor, "3 S S"]:
    """RGB picture of any size → (3, S, S) float32, (pixel / 255 − mean) / std a channel."""
    pixels = torch.from_numpy(np.array(resize_picture(picture, transform), dtype=np.uint8))
    mean, std = torch.tensor(transform.mean), torch.tensor(transform.std)
    return ((pixels.float() / 255 - mean) / std).permute(2, 0, 1).contiguous()


def tensor_to_picture(tensor: Float[Tensor, "3 S S"], transform: TransformConfig) -> Image.Image:
    """The inverse, for looking at what the encoder saw."""
    mean, std = torch.tensor(transform.mean), torch.tensor(transform.std)
    pixels = ((tensor.permute(1, 2, 0).cpu() * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)
    return Image.fromarray(pixels.numpy())
