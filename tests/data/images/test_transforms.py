"""Preprocessing, compared with Pillow and with calculations by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from captioner.config import TransformConfig
from captioner.data.dataset import Box
from captioner.data.images.transforms import (
    FULL_VIEW,
    View,
    image_to_tensor,
    project_box,
    resize_image,
    tensor_to_image,
)

PLAIN = TransformConfig(size=8, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
SIZES = st.tuples(st.integers(1, 40), st.integers(1, 40))
RESAMPLING = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def noise(width: int, height: int) -> Image.Image:
    generator = np.random.default_rng(width * 100 + height)
    return Image.fromarray(generator.integers(0, 256, (height, width, 3)).astype(np.uint8))


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image)


@given(size=SIZES, interpolation=st.sampled_from(sorted(RESAMPLING)))
@settings(deadline=None, max_examples=40)
def test_squash_stretches_the_whole_image(size: tuple[int, int], interpolation: str) -> None:
    image = noise(*size)
    found = resize_image(image, replace(PLAIN, interpolation=interpolation))
    np.testing.assert_array_equal(pixels(found), pixels(image.resize((8, 8), RESAMPLING[interpolation])))


@pytest.mark.parametrize("interpolation", RESAMPLING)
@pytest.mark.parametrize("size", [(20, 10), (30, 10), (10, 25), (18, 12), (24, 36), (4, 6)])
def test_crop_is_the_resized_center_of_the_image(size: tuple[int, int], interpolation: str) -> None:
    """Resize the shorter side to 8, then crop the center: the preprocessing of torchvision's weights."""
    image, scale = noise(*size), 8 / min(size)
    width, height = (round(side * scale) for side in size)
    left, top = (width - 8) // 2, (height - 8) // 2
    whole = image.resize((width, height), RESAMPLING[interpolation]).crop((left, top, left + 8, top + 8))
    found = resize_image(image, replace(PLAIN, resize="crop", interpolation=interpolation))
    np.testing.assert_allclose(pixels(found).astype(int), pixels(whole).astype(int), atol=1)  # Pillow rounds to 8 bits


@pytest.mark.parametrize("size", [(13, 8), (8, 13), (40, 9), (9, 40)])
def test_crop_of_an_odd_margin_is_symmetric(size: tuple[int, int]) -> None:
    """Half a pixel is cropped on each side, so flipping before or after gives the same."""
    image, crop = noise(*size), replace(PLAIN, resize="crop")
    for mirror in (Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.FLIP_TOP_BOTTOM):
        found = resize_image(image.transpose(mirror), crop)
        flipped = pixels(resize_image(image, crop).transpose(mirror))
        np.testing.assert_allclose(pixels(found).astype(int), flipped.astype(int), atol=1)


def test_crop_does_not_see_the_margins() -> None:
    image = Image.new("RGB", (30, 10), "black")
    image.paste((200, 100, 50), (10, 0, 20, 10))
    inside = np.full((8, 6, 3), (200, 100, 50))  # but for the outermost columns, which the filter blends
    found = pixels(resize_image(image, replace(PLAIN, resize="crop")))
    np.testing.assert_array_equal(found[:, 1:7], inside)
    assert (found[:, [0, 7], 0] > 100).all()
    assert (pixels(resize_image(image, PLAIN))[:, 1:7] != inside).any()


def test_antialiased() -> None:
    """All pixels contribute: a fine chessboard becomes gray, not black or white."""
    board = Image.fromarray(((np.indices((64, 64)).sum(axis=0) % 2) * 255).astype(np.uint8)).convert("RGB")
    found = pixels(resize_image(board, PLAIN)).astype(int)
    assert np.abs(found - 127).max() <= 4


@pytest.mark.parametrize("resize", ["squash", "crop"])
def test_an_image_of_the_right_size_is_not_touched(resize: str) -> None:
    image = noise(8, 8)
    np.testing.assert_array_equal(pixels(resize_image(image, replace(PLAIN, resize=resize))), pixels(image))


@given(
    size=st.tuples(st.integers(4, 60), st.integers(4, 60)),
    corners=st.tuples(*[st.integers(0, 60)] * 4),
    crop=st.booleans(),
)
@settings(deadline=None, max_examples=40)
def test_a_projected_box_covers_the_same_pixels(
    size: tuple[int, int], corners: tuple[int, int, int, int], crop: bool
) -> None:
    """Compared pixel by pixel in the encoder's input."""
    transform = replace(PLAIN, resize="crop" if crop else "squash")
    width, height = size
    left, right = sorted(min(at, width) for at in corners[:2])
    top, bottom = sorted(min(at, height) for at in corners[2:])
    seen = project_box(Box("dog", left, top, right - left, bottom - top), width, height, transform.resize)
    image = np.zeros((height, width), dtype=bool)
    image[top:bottom, left:right] = True
    x = (np.arange(400) + 0.5) / 400  # centers of the pixels of the encoder's input
    side = (min(size), min(size)) if crop else size
    columns = ((width - side[0]) / 2 + x * side[0]).astype(int)
    rows = ((height - side[1]) / 2 + x * side[1]).astype(int)
    inside = image[np.ix_(rows, columns)]
    expected = np.zeros((400, 400), dtype=bool)
    if seen is not None:
        expected[np.ix_((seen[1] < x) & (x < seen[3]), (seen[0] < x) & (x < seen[2]))] = True
    assert (expected ^ inside).mean() < 0.01  # pixels on the edges
    assert (seen is not None) or not inside.any()


def test_normalization_is_exact() -> None:
    """(pixel / 255 − mean) / std per channel, in float32, as (channel, row, column)."""
    transform = TransformConfig(size=8)
    image = noise(8, 8)
    found = image_to_tensor(image, transform)
    assert found.shape == (3, 8, 8)
    assert found.dtype == torch.float32
    assert found.is_contiguous()
    scaled = pixels(image).astype(np.float32) / np.float32(255)
    expected = (scaled - np.float32(transform.mean)) / np.float32(transform.std)
    np.testing.assert_array_equal(found.numpy(), expected.transpose(2, 0, 1))


def test_rows_are_rows_and_channels_red_green_blue() -> None:
    image = Image.new("RGB", (8, 8))
    image.putpixel((5, 2), (255, 0, 51))  # column 5, row 2
    found = image_to_tensor(image, PLAIN)
    assert found[:, 2, 5].tolist() == pytest.approx([1.0, 0.0, 0.2])
    assert found.sum().item() == pytest.approx(1.2)


@given(size=SIZES, mean=st.tuples(*[st.floats(0, 1)] * 3), std=st.tuples(*[st.floats(0.05, 1)] * 3), crop=st.booleans())
@settings(deadline=None, max_examples=30)
def test_back_to_the_image(
    size: tuple[int, int], mean: tuple[float, float, float], std: tuple[float, float, float], crop: bool
) -> None:
    transform = TransformConfig(size=8, mean=mean, std=std, resize="crop" if crop else "squash")
    image = noise(*size)
    seen = tensor_to_image(image_to_tensor(image, transform), transform)
    np.testing.assert_array_equal(pixels(seen), pixels(resize_image(image, transform)))


def test_values_beyond_an_image_are_clipped() -> None:
    tensor = torch.stack([torch.full((8, 8), value) for value in (-3.0, 0.5, 7.0)])
    assert pixels(tensor_to_image(tensor, PLAIN))[0, 0].tolist() == [0, 128, 255]


# ------------------------------------------------------------------------------------- a part of an image


@given(size=SIZES, crop=st.booleans())
@settings(deadline=None, max_examples=40)
def test_the_full_view_equals_no_view(size: tuple[int, int], crop: bool) -> None:
    transform = replace(PLAIN, resize="crop" if crop else "squash")
    image = noise(*size)
    assert torch.equal(image_to_tensor(image, transform), image_to_tensor(image, transform, FULL_VIEW))


@pytest.mark.parametrize("resize", ["squash", "crop"])
@pytest.mark.parametrize("size", [(40, 24), (24, 40), (32, 32)])
def test_a_view_is_the_resized_crop(size: tuple[int, int], resize: str) -> None:
    """The left half below the first quarter, compared with cropping whole pixels first."""
    image, transform = noise(*size), replace(PLAIN, resize=resize)
    width, height = size
    side = min(size)
    left, top = ((width - side) // 2, (height - side) // 2) if resize == "crop" else (0, 0)
    width, height = (side, side) if resize == "crop" else size
    box = (left, top + height // 4, left + width // 2, top + height * 3 // 4)
    expected = image.resize((8, 8), Image.Resampling.BILINEAR, box=box)
    found = resize_image(image, transform, View(0.0, 0.25, 0.5, 0.5))
    np.testing.assert_array_equal(pixels(found), pixels(expected))


def test_a_flipped_view_is_the_view_flipped() -> None:
    image, view = noise(30, 20), View(0.25, 0.1, 0.5, 0.8)
    plain, flipped = (image_to_tensor(image, PLAIN, view._replace(flipped=flip)) for flip in (False, True))
    assert torch.equal(flipped, plain.flip(-1))
    assert not torch.equal(flipped, plain)


@given(
    size=SIZES,
    place=st.tuples(*[st.floats(0, 1)] * 2),
    shares=st.tuples(*[st.floats(0.1, 1)] * 2),
    resize=st.sampled_from(["squash", "crop"]),
)
@settings(deadline=None, max_examples=60)
def test_views_never_exceed_the_image(
    size: tuple[int, int], place: tuple[float, float], shares: tuple[float, float], resize: str
) -> None:
    """Pillow raises an error for a box that exceeds the image by a rounding error."""
    width, height = shares
    view = View(place[0] * (1 - width), place[1] * (1 - height), width, height)
    assert resize_image(noise(*size), replace(PLAIN, resize=resize), view).size == (8, 8)
