"""Checks of single image files: how they are stored, and their faults."""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from captioner.config import FolderConfig, TokenizerConfig
from captioner.data.check import image_checks as inspection
from captioner.data.check.check_dataset import check_dataset
from captioner.data.check.image_checks import NARROW, Inspection, inspect_image, inspect_images
from tests.data.images.tiff import tiff
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


def test_images_in_the_dark_and_further_bands_are_counted(tmp_path: Path) -> None:
    """12 bits in 16, reflectances below 3,000, six bands; and images that use their range, whatever their depth."""
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 4096, (9, 9)).astype(np.uint16)).save(tmp_path / "dark.png")
    (tmp_path / "color.tif").write_bytes(tiff(rng.integers(0, 3000, (9, 9, 3)).astype(np.uint16)))
    (tmp_path / "six.tif").write_bytes(tiff(rng.integers(0, 256, (9, 9, 6)).astype(np.uint8)))
    Image.fromarray(rng.integers(0, 65536, (9, 9)).astype(np.uint16)).save(tmp_path / "bright.png")
    Image.new("RGB", (9, 9)).save(tmp_path / "black.png")  # 8 bits lose nothing
    Image.new("RGBA", (9, 9)).save(tmp_path / "alpha.tif")
    Image.fromarray(rng.integers(0, 99, (9, 9)).astype(np.uint16)).save(tmp_path / "darkest.png")
    names = ("dark.png", "color.tif", "six.tif", "bright.png", "black.png", "alpha.tif", "darkest.png")
    found = {name: inspect_image(tmp_path / name) for name in names}
    assert [name for name in names if found[name].used < NARROW] == ["dark.png", "color.tif", "darkest.png"]
    assert {name: found[name].bands for name in names if found[name].bands > 3} == {"six.tif": 6}
    rows = "".join(f"{name},a dog,{'val' if name == 'black.png' else 'train'}\n" for name in names)
    (tmp_path / "captions.csv").write_text(f"image,caption,split\n{rows}")
    config = FolderConfig(root=str(tmp_path), num_workers=0)
    texts = [found.text for found in check_dataset(config, TokenizerConfig(), progress=False, min_count=1).problems]
    (dark,) = [text for text in texts if "nearly black" in text]
    assert dark.startswith("3 images with more than 8 bits, of whose range less than 1/8 is used")
    assert "(dark.png: 6.3%, color.tif: 4.3%, darkest.png: 0.0%)" in dark
    assert "Set data.stretch=percentile" in dark
    assert "1 image with more than three bands, of which the first three are used" in " ".join(texts)
    stretched = check_dataset(replace(config, stretch="percentile"), TokenizerConfig(), progress=False, min_count=1)
    assert not [problem for problem in stretched.problems if "nearly black" in problem.text]
