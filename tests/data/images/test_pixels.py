"""Preprocessing in NumPy beside the same operations in torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from captioner.config import TransformConfig
from captioner.data.images.pixels import image_to_array, resize_image
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
