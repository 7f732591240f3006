"""Checks of single image files: how they are stored, and their faults."""

from __future__ import annotations

import hashlib
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from captioner.data.check import image_checks as inspection
from captioner.data.check.image_checks import Inspection, inspect_image, inspect_images
from tests.data.tiny import write_images


def _save(path: Path, mode: str, **options: Any) -> Path:
    Image.new(mode, (8, 6)).save(path, **options)
    return path


@pytest.mark.parametrize(
    ("mode", "name", "options", "reported"),
    [
        ("RGB", "a.jpg", {}, "RGB"),
        ("L", "a.jpg", {}, "gray"),
        ("CMYK", "a.jpg", {}, "CMYK"),
        ("1", "a.png", {}, "black and white"),
        ("P", "a.png", {}, "palette"),
        ("P", "a.png", {"transparency": 0}, "transparent"),
        ("RGBA", "a.png", {}, "transparent"),
        ("LA", "a.png", {}, "transparent"),
        ("I;16", "a.png", {}, "more than 8 bits"),
        ("F", "a.tiff", {}, "more than 8 bits"),
    ],
)
def test_how_it_is_stored(tmp_path: Path, mode: str, name: str, options: dict[str, Any], reported: str) -> None:
    path = _save(tmp_path / name, mode, **options)
    digest = hashlib.sha256(path.read_bytes()).digest()
    assert inspect_image(path) == Inspection(path, mode=reported, pixels=48, digest=digest)


def test_sixteen_bit_color(tmp_path: Path) -> None:
    """PIL cannot write it, and reads it as RGB: one pixel, chunk by chunk (PNG specification, section 5)."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    pixel = zlib.compress(b"\0" + struct.pack(">HHH", 65535, 0, 0))
    path = tmp_path / "deep.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixel) + chunk(b"IEND", b""))
    with Image.open(path) as image:
        assert image.mode == "RGB"
    assert inspect_image(path).mode == "more than 8 bits"


@pytest.mark.parametrize(("orientation", "turned"), [(1, False), (2, True), (6, True), (9, False)])
def test_rotated(tmp_path: Path, orientation: int, turned: bool) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert inspect_image(_save(tmp_path / "a.jpg", "RGB", exif=exif)).rotated is turned


def test_faults(tmp_path: Path) -> None:
    whole = tmp_path / "whole.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(whole)
    (tmp_path / "cut.png").write_bytes(whole.read_bytes()[:-500])
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder.png").mkdir()
    faults = {name: inspect_image(tmp_path / name) for name in ("cut.png", "empty.png", "none.png", "folder.png")}
    assert [found.fault for found in faults.values()] == ["damaged", "empty", "missing", "damaged"]
    assert all(name in found.reason for name, found in faults.items())


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_several_processes_give_the_same_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "MIN_FOR_PROCESSES", 1)
    names = [f"{number}.png" for number in range(70)]
    write_images(tmp_path, names[1:])
    paths = [tmp_path / name for name in names]
    one_by_one, speed = inspect_images(paths, progress=False)
    assert speed > 0
    assert [found.path for found in one_by_one] == paths
    assert inspect_images(paths, workers=2, progress=False)[0] == one_by_one
    assert inspect_images([], progress=False)[0] == []
