"""Every image format gives the RGB image that a viewer shows; every damaged file gives an ImageError that names it."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from captioner.data.images import decode as images
from captioner.data.images.decode import IMAGE_SUFFIXES, load_image
from captioner.errors import ImageError

RANDOM = np.random.default_rng(0)
RGB = RANDOM.integers(0, 256, (6, 9, 3), dtype=np.uint8)
GREY = RANDOM.integers(0, 256, (6, 9), dtype=np.uint8)


def _file(image: Image.Image, format: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def _pixels(source: Any, **options: Any) -> np.ndarray:
    image = load_image(source, **options)
    assert image.mode == "RGB"
    return np.asarray(image)


def _gray(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[:, :, None], 3, axis=2)


# ---------------------------------------------------------------------------------------- sources


def test_every_source_gives_the_same_image(tmp_path: Path) -> None:
    path = tmp_path / "an image ü.png"
    Image.fromarray(RGB).save(path)
    tensor = torch.from_numpy(RGB).permute(2, 0, 1)
    sources = [path, str(path), path.read_bytes(), Image.open(path), Image.fromarray(RGB), RGB, RGB[:, ::-1][:, ::-1]]
    sources += [RGB.astype(np.float64) / 255, RGB.astype(np.float32) / 255, tensor, tensor.float() / 255]
    sources += [(tensor.float() / 255).requires_grad_(), (tensor.double() / 255)]
    for source in sources:
        np.testing.assert_array_equal(_pixels(source), RGB)
    sources[3].close()


def test_gray_and_transparent_arrays() -> None:
    np.testing.assert_array_equal(_pixels(GREY), _gray(GREY))
    np.testing.assert_array_equal(_pixels(GREY[:, :, None]), _gray(GREY))
    np.testing.assert_array_equal(_pixels(torch.from_numpy(GREY)[None]), _gray(GREY))
    solid = np.dstack([RGB, np.full((6, 9), 255, np.uint8)])
    np.testing.assert_array_equal(_pixels(solid), RGB)
    np.testing.assert_array_equal(_pixels(np.dstack([RGB, np.zeros((6, 9), np.uint8)])), np.full_like(RGB, 255))


def test_bfloat16_tensor() -> None:
    np.testing.assert_array_equal(_pixels(torch.ones(3, 2, 2, dtype=torch.bfloat16)), np.full((2, 2, 3), 255))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros((2, 2), np.int64), "int64"),
        (np.zeros((2, 2), bool), "bool"),
        (np.zeros((2, 2, 2), np.uint8), r"\(2, 2, 2\)"),
        (np.zeros((3,), np.uint8), r"\(3,\)"),
        (np.zeros((0, 4, 3), np.uint8), r"\(0, 4, 3\)"),
        (np.full((2, 2), 255.0), "0 to 1"),
        (np.full((2, 2), -0.5), "0 to 1"),
        (np.full((2, 2), np.nan), "nan"),
        (torch.zeros(2, 2, 3), r"Expected \(3, height, width\)"),
        (torch.zeros(1, 3, 2, 2), r"Expected \(3, height, width\)"),
        (torch.zeros(3, 2, 2, dtype=torch.int64), "int64"),
        (torch.zeros(3, 0, 2), "shape"),
        (None, "NoneType"),
        (12, "int"),
        ([1, 2], "list"),
    ],
)
def test_objects_that_are_not_images(source: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        load_image(source)


def test_the_source_is_not_changed() -> None:
    image = Image.fromarray(RGB)
    load_image(image).putpixel((0, 0), (1, 2, 3))
    np.testing.assert_array_equal(np.asarray(image), RGB)
    array = RGB.copy()
    load_image(array).putpixel((0, 0), (1, 2, 3))
    np.testing.assert_array_equal(array, RGB)


# ------------------------------------------------------------------------------------------ modes


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "PPM", "WEBP", "JPEG2000"])
def test_lossless_formats(format: str) -> None:
    options = {"lossless": True} if format == "WEBP" else {}
    np.testing.assert_array_equal(_pixels(_file(Image.fromarray(RGB), format, **options)), RGB)


def test_gray_and_one_bit() -> None:
    np.testing.assert_array_equal(_pixels(_file(Image.fromarray(GREY), "PNG")), _gray(GREY))
    bits = GREY > 127
    np.testing.assert_array_equal(_pixels(_file(Image.fromarray(bits), "PNG")), _gray(np.where(bits, 255, 0)))


@pytest.mark.parametrize("format", ["PNG", "TIFF", "PPM"])
@given(values=hnp.arrays(np.uint16, (5, 4)))
@settings(max_examples=10, deadline=None)
def test_sixteen_bit_gray_is_scaled(format: str, values: np.ndarray) -> None:
    expected = np.floor(values.astype(np.float64) * 255 / 65535 + 0.5)
    if format == "PPM":  # written by hand: Pillow before 11 cannot
        content = b"P5 4 5 65535\n" + values.astype(">u2").tobytes()
    else:
        content = _file(Image.fromarray(values), format)
    np.testing.assert_array_equal(_pixels(content), _gray(expected))


def test_sixteen_bit_big_endian() -> None:
    header = struct.pack(">2sHI", b"MM", 42, 8)
    tags = [(256, 4, 1, 2), (257, 4, 1, 1), (258, 3, 1, 16 << 16), (259, 3, 1, 1 << 16), (262, 3, 1, 1 << 16)]
    tags += [(273, 4, 1, 8 + 2 + 12 * 8 + 4), (278, 4, 1, 1), (279, 4, 1, 4)]
    entries = b"".join(struct.pack(">HHII", *tag) for tag in tags)
    tiff = header + struct.pack(">H", len(tags)) + entries + struct.pack(">I", 0) + struct.pack(">HH", 0, 32896)
    with Image.open(io.BytesIO(tiff)) as image:
        assert image.mode == "I;16B"
    np.testing.assert_array_equal(_pixels(tiff)[0, :, 0], [0, 128])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0.0, 0.5, 1.0]], np.float32), [0, 128, 255]),
        (np.array([[0.0, 100.0, 255.0]], np.float32), [0, 100, 255]),
        (np.array([[-10.0, 0.0, 10.0]], np.float32), [0, 128, 255]),
        (np.array([[np.nan, np.inf, 1.0]], np.float32), [0, 0, 255]),
        (np.array([[7e9, 7e9]], np.float32), [0, 0]),
        (np.array([[0, 32896, 65535]], np.int32), [0, 128, 255]),
        (np.array([[0, 2**20, 2**21]], np.int32), [0, 128, 255]),
        (np.array([[-2, -2]], np.int32), [0, 0]),
    ],
)
def test_floats_and_long_integers(values: np.ndarray, expected: list[int]) -> None:
    assert _pixels(_file(Image.fromarray(values), "TIFF"))[0, :, 0].tolist() == expected
    assert _pixels(Image.fromarray(values))[0, :, 0].tolist() == expected


@given(rgba=hnp.arrays(np.uint8, (3, 4, 4)))
@settings(max_examples=20, deadline=None)
def test_transparency_is_composited_on_white(rgba: np.ndarray) -> None:
    alpha = rgba[:, :, 3:].astype(np.float64) / 255
    expected = rgba[:, :, :3] * alpha + 255 * (1 - alpha)
    assert np.abs(_pixels(_file(Image.fromarray(rgba), "PNG")) - expected).max() <= 1
    gray = Image.fromarray(rgba).convert("LA")
    values, alpha = (np.asarray(band).astype(np.float64) for band in gray.split())
    expected = _gray(values * alpha / 255 + 255 - alpha)
    for source in (_file(gray, "PNG"), gray):
        assert np.abs(_pixels(source) - expected).max() <= 1


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_a_color_that_means_transparent(mode: str) -> None:
    image = Image.new(mode, (2, 1), 0)
    image.putpixel((1, 0), (50, 60, 70) if mode == "RGB" else 1)
    if mode == "P":
        image.putpalette([9, 9, 9, 50, 60, 70])
    pixels = _pixels(_file(image, "PNG", transparency=(0, 0, 0) if mode == "RGB" else 0))
    assert pixels[0, 0].tolist() == [255, 255, 255]
    kept = {"1": [255] * 3, "L": [1] * 3}.get(mode, [50, 60, 70])
    assert pixels[0, 1].tolist() == kept


def test_palette_with_an_alpha_for_every_color() -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([0, 0, 0, 0, 0, 0, 0, 0, 0])
    image.putdata([0, 1, 2])
    pixels = _pixels(_file(image, "PNG", transparency=bytes([0, 128, 255])))
    assert np.abs(pixels[0, :, 0].astype(int) - [255, 127, 0]).max() <= 1


@pytest.mark.parametrize("modes", ["RGBX", "RGBA RGBa", "LA La", "P PA", "YCbCr", "HSV", "CMYK"])
def test_rarer_modes_of_pil(modes: str) -> None:
    image = Image.new("RGB", (3, 2), "white")
    for mode in modes.split():
        image = image.convert(mode)
    np.testing.assert_array_equal(_pixels(image), np.full((2, 3, 3), 255))


def test_lab() -> None:
    pixels = _pixels(_file(Image.new("LAB", (2, 2), (255, 128, 128)), "TIFF"))
    assert pixels.min() >= 253


def test_cmyk_jpeg_whose_inks_adobe_stores_inverted() -> None:
    stored = _file(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=100)  # no cyan: red
    assert b"Adobe" in stored
    with Image.open(io.BytesIO(stored)) as image:
        assert image.mode == "CMYK"
    assert np.abs(_pixels(stored)[4, 4].astype(int) - [255, 0, 0]).max() <= 3


def test_first_frame() -> None:
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue", "green")]
    for format in ("GIF", "WEBP", "PNG", "TIFF"):
        options = {"lossless": True} if format == "WEBP" else {}
        pixels = _pixels(_file(frames[0], format, save_all=True, append_images=frames[1:], **options))
        assert pixels[0, 0].tolist() == [255, 0, 0], format


# ------------------------------------------------------------------------------------ orientation


def _stored(upright: np.ndarray, orientation: int) -> np.ndarray:
    """`upright` as a camera stores it: the inverse of the EXIF orientation (EXIF 2.3, section 4.6.4)."""
    swapped = upright.transpose(1, 0, 2)
    return {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: swapped,
        6: swapped[::-1],
        7: swapped[::-1, ::-1],
        8: swapped[:, ::-1],
    }[orientation]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF", "JPEG"])
def test_orientation(format: str, orientation: int) -> None:
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :16] = [255, 0, 0]
    upright[8:, :16] = [0, 0, 255]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}.get(format, {})
    data = _file(Image.fromarray(np.ascontiguousarray(_stored(upright, orientation))), format, exif=exif, **options)
    assert np.abs(_pixels(data).astype(int) - upright).max() <= 6
    with Image.open(io.BytesIO(data)) as image:  # a PIL image carries its orientation, too
        assert np.abs(_pixels(image).astype(int) - upright).max() <= 6


@pytest.mark.parametrize("value", [0, 9, 300])
def test_orientation_that_does_not_exist(value: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    np.testing.assert_array_equal(_pixels(_file(Image.fromarray(RGB), "PNG", exif=exif)), RGB)


@pytest.mark.parametrize(
    "exif", [b"Exif\x00\x00garbage", b"Exif\x00\x00II*\x00\x08\x00\x00\x00\xff\xff", b"Exif\x00\x00"]
)
def test_broken_exif_is_ignored(exif: bytes) -> None:
    photo = Image.new("RGB", (16, 8), "red")
    assert load_image(_file(photo, "JPEG", exif=exif)).size == (16, 8)


# ------------------------------------------------------------------------------------------- size


def test_huge_jpegs_are_decoded_at_a_fraction_of_their_size() -> None:
    photo = _file(Image.new("RGB", (1600, 1200), (200, 100, 50)), "JPEG")
    assert load_image(photo).size == (1600, 1200)
    for at_least in (1, 50, 100, 150, 299):
        image = load_image(photo, at_least=at_least)
        assert min(image.size) >= 2 * at_least
        assert image.size < (1600, 1200)
        assert np.abs(np.asarray(image).astype(int) - [200, 100, 50]).max() <= 3
    for at_least in (300, 600, 5000):
        assert load_image(photo, at_least=at_least).size == (1600, 1200)


def test_draft_and_orientation_together() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = load_image(_file(Image.new("RGB", (800, 400)), "JPEG", exif=exif), at_least=50)
    assert image.size == (100, 200)


def test_decompression_bombs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "bomb.ppm"
    path.write_bytes(b"P6 60000 60000 255 ")
    with pytest.raises(ImageError, match=r"bomb\.ppm is too large.* 178,956,970"):
        load_image(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # as other libraries do
    with pytest.raises(ImageError, match=r"3,600,000,000 pixels"):
        load_image(path)


def test_large_images_within_the_limit_do_not_warn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
    assert load_image(_file(Image.fromarray(RGB), "PNG")).size == (9, 6)


# ----------------------------------------------------------------------------------------- damage


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_truncated_files(tmp_path: Path, format: str) -> None:
    whole = _file(Image.fromarray(RANDOM.integers(0, 256, (64, 64, 3), dtype=np.uint8)), format)
    path = tmp_path / "cut.jpg"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageError, match=r"cut\.jpg"):
        load_image(path)


def test_files_that_are_not_images(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    with pytest.raises(ImageError, match=r"x\.jpg does not exist"):
        load_image(path)
    path.write_bytes(b"")
    with pytest.raises(ImageError, match=r"x\.jpg is empty"):
        load_image(path)
    path.write_text("<html>")
    with pytest.raises(ImageError, match=r"x\.jpg is not an image"):
        load_image(path)
    path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n")
    with pytest.raises(ImageError, match="not an image in a supported format"):  # no program is started for it
        load_image(path)
    with pytest.raises(ImageError, match="is a folder"):
        load_image(tmp_path)
    with pytest.raises(ImageError, match="bytes is empty"):
        load_image(b"")
    with pytest.raises(ImageError, match="cannot be read"):
        load_image("a\0b.jpg")


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "JPEG2000"])
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_damaged_files_give_an_image_or_an_image_error(format: str, data: st.DataObject) -> None:
    content = bytearray(_file(Image.fromarray(RGB), format))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content
    try:
        image = load_image(bytes(content), at_least=data.draw(st.sampled_from([None, 1, 224])))
    except ImageError:
        return
    assert image.mode == "RGB"


@given(content=st.binary(max_size=200))
@settings(max_examples=50, deadline=None)
def test_random_bytes(content: bytes) -> None:
    with pytest.raises(ImageError):
        load_image(content)


# -------------------------------------------------------------------------------------- real data


def test_real_photos(real_data: Path) -> None:
    paths = sorted((real_data / "coco_mini").glob("*/*.jpg"))
    assert {path.suffix for path in paths} <= IMAGE_SUFFIXES
    gray = 0
    for path in paths:
        decoded = load_image(path, at_least=224)
        with Image.open(path) as image:
            assert decoded.size == image.size  # COCO's photos are no larger than 640: decoded whole
        red, green, blue = np.moveaxis(np.asarray(decoded).astype(int), 2, 0)
        gray += int(max(abs(red - green).max(), abs(green - blue).max()) <= 1)
    assert gray >= 1  # black and white photos


def test_supported_formats_are_registered_in_pillow() -> None:
    Image.init()
    assert set(images._FORMATS) <= set(Image.OPEN)
