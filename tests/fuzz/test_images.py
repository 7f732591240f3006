"""Image files with damaged bytes, wrong names, absurd sizes and absurd EXIF."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import strategies as st
from PIL import Image, features

from captioner.config import FolderConfig, TransformConfig
from captioner.data.images.decode import load_image
from captioner.data.images.loader import load_image_batches
from tests.fuzz.harness import fuzz, harmless, shares
from tests.fuzz.mutations import mutated_bytes

TRANSFORM = TransformConfig(size=32)
FORMATS = ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "JPEG2000"]
FORMATS += ["AVIF"] if features.check("avif") else []
SUFFIXES = [".jpg", ".png", ".gif", ".webp", ".bmp", ".tif", ".ppm", ".jp2", ".txt", "", ".JPG"]
SIDES = st.sampled_from([0, 1, 33, 4096, 65_535, 65_536, 2**31 - 1, 2**31, 2**32 - 1])


def image(kind: str, mode: str = "RGB") -> bytes:
    """A small image file with EXIF, where the format has it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    drawing = Image.linear_gradient("L").resize((24, 16)).convert(mode)
    if kind in ("JPEG", "PNG", "WEBP"):
        drawing.save(stream, kind, exif=exif)
    else:
        drawing.save(stream, kind)
    return stream.getvalue()


def png_of(size: tuple[int, int], depth: int, color: int) -> bytes:
    """A PNG file with this header, checksum included, and few pixels."""
    header = struct.pack(">IIBBBBB", *size, depth, color, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 999)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def gif_of(width: int, height: int) -> bytes:
    """A GIF file with this screen size."""
    return b"GIF89a" + struct.pack("<HH", width % 65_536, height % 65_536) + image("GIF")[10:]


def jpeg_with_exif(block: bytes) -> bytes:
    """A JPEG file with this as its EXIF block."""
    content = b"Exif\0\0" + block[:65_000]
    return b"\xff\xd8\xff\xe1" + struct.pack(">H", len(content) + 2) + content + image("JPEG")[2:]


def tiff_header(entries: list[tuple[int, int, int, int]]) -> bytes:
    """An EXIF block that lists (tag, type, count, value or place)."""
    rows = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + rows + b"\x08\0\0\0"  # and again from the start


NUMBERS = st.sampled_from([0, 1, 3, 6, 9, 2**16 - 1, 2**31, 2**32 - 1])
SHORT = st.integers(0, 13)
ENTRIES = st.lists(st.tuples(st.sampled_from([0x0112, 0x8769, 0x8825, 0x9286, 1]), SHORT, NUMBERS, NUMBERS), max_size=4)
ABSURD = st.one_of(
    st.builds(png_of, st.tuples(SIDES, SIDES), st.sampled_from([1, 8, 16, 99]), st.sampled_from([0, 2, 3, 4, 6, 7])),
    st.builds(gif_of, SIDES, SIDES),
    st.builds(jpeg_with_exif, ENTRIES.map(tiff_header) | st.binary(max_size=64)),
    st.binary(max_size=64),
)


def check_in(folder: Path, content: bytes, suffix: str) -> None:
    path = folder / f"image{suffix}"
    path.write_bytes(content)
    with harmless(folder):
        opened = load_image(path)
        assert opened.mode == "RGB"
    with harmless(folder):
        load_image(content, at_least=8)
    skipping = FolderConfig(on_bad_image="skip", num_workers=0)
    with harmless(folder):
        (loaded,) = load_image_batches([path, folder / "missing.jpg"], [[0, 1]], TRANSFORM, skipping)
        assert 1 in loaded.bad
    path.unlink()


@shares(8, 60)
@pytest.mark.parametrize("kind", FORMATS)
def test_damaged(kind: str, cases: int, tmp_path: Path) -> None:
    images = st.sampled_from([image(kind), *([image(kind, "RGBA")] if kind in ("PNG", "TIFF", "WEBP") else [])])
    damaged = st.tuples(images.flatmap(mutated_bytes), st.sampled_from(SUFFIXES))
    fuzz(cases, damaged, lambda case: check_in(tmp_path, *case))


@shares(30, 200)
def test_absurd(cases: int, tmp_path: Path) -> None:
    fuzz(cases, st.tuples(ABSURD, st.sampled_from(SUFFIXES)), lambda case: check_in(tmp_path, *case))
