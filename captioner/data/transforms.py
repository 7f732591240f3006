"""The only preprocessing there is: an RGB picture → the tensor an encoder reads.

Training, evaluation, captioning and the feature cache all call `picture_to_tensor`; its settings are
stored in the checkpoint, so a photo is never prepared in two ways. Augmentation only chooses what part of
the picture goes in (`View`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from captioner.config import TransformConfig
from captioner.data.dataset import Box

_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


class View(NamedTuple):
    """A box, in shares of what evaluation shows of a picture, from its upper left; and is it mirrored left to right?"""

    left: float = 0.0
    top: float = 0.0
    width: float = 1.0
    height: float = 1.0
    mirrored: bool = False


WHOLE = View()


def resize_picture(picture: Image.Image, transform: TransformConfig, view: View = WHOLE) -> Image.Image:
    """The (size × size) picture that the encoder sees, antialiased.

    "squash" stretches the whole picture; "crop" takes the middle of the picture whose shorter side has
    been resized to `size`, in one step. `view`: only this part of it, resized to as many pixels.
    """
    left, top, width, height = 0.0, 0.0, float(picture.width), float(picture.height)
    if transform.resize == "crop":
        side = float(min(picture.size))
        left, top, width, height = (width - side) / 2, (height - side) / 2, side, side
    left, top, width, height = (
        left + view.left * width,
        top + view.top * height,
        view.width * width,
        view.height * height,
    )
    box = (left, top, min(left + width, picture.width), min(top + height, picture.height))  # no rounding over the edge
    if picture.size != (transform.size, transform.size) or box != (0, 0, *picture.size):
        picture = picture.resize((transform.size, transform.size), _RESAMPLING[transform.interpolation], box=box)
    return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if view.mirrored else picture


def box_as_seen(box: Box, width: int, height: int, resize: str) -> tuple[float, float, float, float] | None:
    """A box of a picture of this size as the encoder sees it: left, top, right, bottom as fractions of its square.

    None for one that lies outside of what "crop" leaves.
    """
    left, top, right, bottom = 0.0, 0.0, float(width), float(height)
    if resize == "crop":
        side = float(min(width, height))
        left, top = (width - side) / 2, (height - side) / 2
        right, bottom = left + side, top + side
    x = [min(max((at - left) / (right - left), 0.0), 1.0) for at in (box.left, box.left + box.width)]
    y = [min(max((at - top) / (bottom - top), 0.0), 1.0) for at in (box.top, box.top + box.height)]
    return (x[0], y[0], x[1], y[1]) if x[0] < x[1] and y[0] < y[1] else None


def picture_to_tensor(picture: Image.Image, transform: TransformConfig, view: View = WHOLE) -> Float[Tensor, "3 S S"]:
    """RGB picture of any size → (3, S, S) float32, (pixel / 255 − mean) / std a channel."""
    pixels = torch.from_numpy(np.array(resize_picture(picture, transform, view), dtype=np.uint8))
    mean, std = torch.tensor(transform.mean), torch.tensor(transform.std)
    return ((pixels.float() / 255 - mean) / std).permute(2, 0, 1).contiguous()


def tensor_to_picture(tensor: Float[Tensor, "3 S S"], transform: TransformConfig) -> Image.Image:
    """The inverse, for looking at what the encoder saw."""
    mean, std = torch.tensor(transform.mean), torch.tensor(transform.std)
    pixels = ((tensor.permute(1, 2, 0).cpu() * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)
    return Image.fromarray(pixels.numpy())
