"""Preprocessing without torch: an RGB image → the array that an encoder reads. `transforms` makes a tensor of it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image
from PIL import __version__ as pillow_version

from captioner.config import TransformConfig

_RESAMPLING = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

# Pillow resizes in two passes and rounds between them. From version 13 on it takes columns first where height shrinks
# by more than twice as many pixels as the width. Portraits get other pixels: findings/pillow_resize_pass_order.sh.
TALL_FIRST = int(pillow_version.split(".")[0]) >= 13


class View(NamedTuple):
    """A crop of an image, in fractions of what the encoder sees without augmentation, and whether it is flipped.

    left, top: of the upper left corner; flipped: horizontally.
    """

    left: float = 0.0
    top: float = 0.0
    width: float = 1.0
    height: float = 1.0
    flipped: bool = False


FULL_VIEW = View()


def resize_image(image: Image.Image, transform: TransformConfig, view: View = FULL_VIEW) -> Image.Image:
    """The (size × size) image that the encoder sees, antialiased.

    The transform "squash" resizes the whole image to a square; "crop" takes the central square. Then `view` is cropped
    from it. All of this is one resize operation.
    """
    left, top, width, height = 0.0, 0.0, float(image.width), float(image.height)
    if transform.resize == "crop":
        side = float(min(image.size))
        left, top, width, height = (width - side) / 2, (height - side) / 2, side, side
    left, top, width, height = (
        left + view.left * width,
        top + view.top * height,
        view.width * width,
        view.height * height,
    )
    box = (left, top, min(left + width, image.width), min(top + height, image.height))  # no rounding over the edge
    if image.size != (transform.size, transform.size) or box != (0, 0, *image.size):
        image = image.resize((transform.size, transform.size), _RESAMPLING[transform.interpolation], box=box)
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if view.flipped else image


def image_to_array(image: Image.Image, transform: TransformConfig, view: View = FULL_VIEW) -> np.ndarray:
    """RGB image of any size → (3, S, S) float32: (pixel / 255 − mean) / std per channel, rounded to float32 each time.

    The values are those of the same operations in torch, bit by bit.
    """
    pixels = np.asarray(resize_image(image, transform, view), dtype=np.uint8)
    channels = np.ascontiguousarray(pixels.transpose(2, 0, 1)).astype(np.float32)
    channels /= np.float32(255)
    channels -= np.array(transform.mean, np.float32)[:, None, None]
    channels /= np.array(transform.std, np.float32)[:, None, None]
    return channels
