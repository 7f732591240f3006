"""Images with more than 8 bits: compared with NumPy, by strips as whole, and within a limit of memory."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from captioner.data.images import depth
from captioner.data.images.decode import load_image, load_image_bytes
from captioner.data.images.depth import PERCENTILES
from captioner.errors import ImageError
from tests.data.images.tiff import tiff


def _png(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG")
    return file.getvalue()


def _stretched(values: np.ndarray) -> np.ndarray:
    """The definition, in NumPy: the percentiles are values of the image, and no limit where they are equal."""
    ordered = np.sort(values.ravel().astype(float))
    low, high = (ordered[max(int(np.ceil(len(ordered) * p / 100)) - 1, 0)] for p in PERCENTILES)
    if low == high:
        low, high = ordered[0], ordered[-1]
    if low == high:
        return np.round(values * (255 / 65535)).astype(np.uint8)
    return np.clip(np.round((values - low) * (255 / (high - low))), 0, 255).astype(np.uint8)


@given(hnp.arrays(np.uint16, (9, 7), elements=st.integers(0, 4095)))
@settings(max_examples=60, deadline=None)
def test_gray_images_are_stretched_as_defined(values: np.ndarray) -> None:
    found = np.asarray(load_image(_png(values), stretch="percentile"))
    np.testing.assert_array_equal(found, np.repeat(_stretched(values)[:, :, None], 3, axis=2))


@pytest.mark.parametrize("big_endian", [False, True])
@given(values=hnp.arrays(np.uint16, (6, 5, 3)))
@settings(max_examples=40, deadline=None)
def test_color_images_of_16_bits_are_stretched_with_all_of_them(big_endian: bool, values: np.ndarray) -> None:
    """PIL alone gives the upper 8 bits; the values below are told apart by the lower ones only."""
    for scaled in (values, values // 256):
        found = np.asarray(load_image(tiff(scaled, big_endian=big_endian), stretch="percentile"))
        np.testing.assert_array_equal(found, _stretched(scaled))


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate"])
def test_compressed_gray_tiff(compression: str) -> None:
    values = np.random.default_rng(0).integers(0, 3000, (40, 30)).astype(np.uint16)
    file = io.BytesIO()
    Image.fromarray(values).save(file, "TIFF", compression=compression)
    found = np.asarray(load_image(file.getvalue(), stretch="percentile"))
    np.testing.assert_array_equal(found[:, :, 0], _stretched(values))


def test_color_png_of_16_bits() -> None:
    """Written by hand, as PIL writes none."""
    values = np.random.default_rng(1).integers(0, 200, (20, 16, 3)).astype(np.uint16)
    found = np.asarray(load_image(_rgb16_png(values), stretch="percentile"))
    np.testing.assert_array_equal(found, _stretched(values))
    assert np.asarray(load_image(_rgb16_png(values))).max() == 0


def _rgb16_png(values: np.ndarray) -> bytes:
    import struct
    import zlib

    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("values", [np.float32([[0.01, 0.02], [0.03, 0.05]]), np.float32([[-7, 4000], [5, np.nan]])])
def test_floats(values: np.ndarray) -> None:
    file = io.BytesIO()
    Image.fromarray(values).save(file, "TIFF")
    found = np.asarray(load_image(file.getvalue(), stretch="percentile"))
    assert (found.min(), found.max()) == (0, 255)


@given(hnp.arrays(np.uint8, (8, 6, 3)))
@settings(max_examples=60, deadline=None)
def test_stretching_again_changes_nothing(pixels: np.ndarray) -> None:
    """So the demo, which decodes an upload before it is captioned, gives the model the same pixels."""
    once = load_image(_png(pixels), stretch="percentile")
    np.testing.assert_array_equal(np.asarray(load_image(once, stretch="percentile")), np.asarray(once))


def test_every_source_is_stretched() -> None:
    pixels = np.random.default_rng(0).integers(10, 60, (12, 10, 3)).astype(np.uint8)
    whole = np.asarray(load_image(_png(pixels), stretch="percentile"))
    assert (whole.min(), whole.max()) == (0, 255)
    for source in (pixels, Image.fromarray(pixels)):
        np.testing.assert_array_equal(np.asarray(load_image(source, stretch="percentile")), whole)
    np.testing.assert_array_equal(np.asarray(load_image_bytes(_png(pixels), "x", stretch="percentile")), whole)
    np.testing.assert_array_equal(np.asarray(load_image(_png(pixels))), pixels)


@pytest.mark.parametrize("strip", [1, 7, 64])
def test_strips_give_what_the_whole_image_gives(strip: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    images: list[Any] = [
        _png(rng.integers(0, 4096, (23, 9)).astype(np.uint16)),
        tiff(rng.integers(0, 3000, (23, 9, 3)).astype(np.uint16)),
        _png(rng.integers(0, 99, (23, 9, 3)).astype(np.uint8)),
    ]
    whole = [np.asarray(load_image(image, stretch=stretch)) for image in images for stretch in ("none", "percentile")]
    monkeypatch.setattr(depth, "STRIP", strip)
    parts = [np.asarray(load_image(image, stretch=stretch)) for image in images for stretch in ("none", "percentile")]
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_sample_is_evenly_spaced_whatever_the_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(4).integers(0, 4096, (60, 50)).astype(np.uint16)
    monkeypatch.setattr(depth, "SAMPLE", 400)  # every third row and column
    sample = np.sort(values[::3, ::3].ravel())
    low, high = (sample[int(np.ceil(len(sample) * p / 100)) - 1] for p in PERCENTILES)
    expected = np.clip(np.round((values.astype(float) - low) * (255 / (int(high) - int(low)))), 0, 255)
    for strip in (1, 128, 1 << 20):
        monkeypatch.setattr(depth, "STRIP", strip)
        found = np.asarray(load_image(_png(values), stretch="percentile"))
        np.testing.assert_array_equal(found[:, :, 0], expected)


@pytest.mark.parametrize("kind", [np.uint16, np.float32])
def test_bands_that_cannot_be_read_get_advice(kind: type) -> None:
    with pytest.raises(ImageError, match=r"TIFF file of a kind that Pillow cannot read.*gdal_translate -b 4 -b 3 -b 2"):
        load_image(tiff(np.ones((4, 5, 13), kind)))


@pytest.mark.slow
@pytest.mark.parametrize("stretch", ["none", "percentile"])
def test_memory_of_a_large_image_is_three_times_its_size(stretch: str, tmp_path: Path) -> None:
    """64 million pixels of 16 bits are 128 MB; the file has 124 kB."""
    Image.fromarray(np.zeros((8000, 8000), np.uint16)).save(tmp_path / "large.png")
    program = (
        "import resource, sys\n"
        "from captioner.data.images.decode import load_image\n"
        "used = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"before = used(); load_image({str(tmp_path / 'large.png')!r}, stretch={stretch!r}); print(used() - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) * 1024 <= 3 * 128_000_000
