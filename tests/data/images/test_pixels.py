"""Preprocessing in NumPy beside the same operations in torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from captioner.config import TransformConfig
from captioner.data.images.pixels import TALL_FIRST, image_to_array, resize_image
from captioner.data.images.transforms import image_to_tensor


@pytest.mark.parametrize("resize", ["squash", "crop"])
def test_every_pixel_value_is_normalized_as_by_torch_bit_by_bit(resize: str) -> None:
    transform = TransformConfig(
        size=48, resize=resize, interpolation="bicubic", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 127 / 255)
    )
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3)).astype(np.uint8)
    image = Image.fromarray(pixels)
    resized = torch.from_numpy(np.array(resize_image(image, transform)))
    mean, std = torch.tensor(transform.mean), torch.tensor(transform.std)
    expected = ((resized.float() / 255 - mean) / std).permute(2, 0, 1)
    found = image_to_array(image, transform)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, expected.numpy())
    assert torch.equal(image_to_tensor(image, transform), expected)


def test_the_installed_pillow_resizes_portraits_in_the_order_that_is_assumed() -> None:
    """One pass after the other, as two calls, gives the pixels of the order that the call for both has."""
    noise = np.random.default_rng(0).integers(0, 256, (500, 333, 3), np.uint8)
    portrait, bicubic = Image.fromarray(noise), Image.Resampling.BICUBIC
    both = portrait.resize((224, 224), bicubic)
    columns_first = portrait.resize((333, 224), bicubic).resize((224, 224), bicubic)
    rows_first = portrait.resize((224, 500), bicubic).resize((224, 224), bicubic)
    assert columns_first.tobytes() != rows_first.tobytes()
    assert both.tobytes() == (columns_first if TALL_FIRST else rows_first).tobytes()
