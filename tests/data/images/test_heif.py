"""HEIC photos: read upright where pillow-heif is installed; otherwise a message that names the extra."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captioner.data.images import heif
from captioner.data.images.decode import image_size, load_image
from captioner.data.images.heif import is_heif
from captioner.errors import ImageError

HEAD = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"  # of a file as a phone writes it


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A HEIC file, white above and black below."""
    pillow_heif = pytest.importorskip("pillow_heif", reason="the extra [heic] is not installed")
    image = Image.fromarray(np.repeat(np.uint8([[255], [0]]), 32, axis=0).repeat(96, axis=1)).convert("RGB")
    path = tmp_path / "photo.heic"
    pillow_heif.from_pillow(image).save(path, quality=90)
    return path


def test_a_photo_is_read(photo: Path) -> None:
    assert is_heif(photo.read_bytes()[:12])
    assert image_size(photo) == (96, 64)
    for source in (photo, photo.read_bytes()):
        pixels = np.asarray(load_image(source))
        assert pixels.shape == (64, 96, 3)
        assert pixels[:24].min() > 240
        assert pixels[-24:].max() < 15


def test_a_rotated_photo_is_upright(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif", reason="the extra [heic] is not installed")
    stored = np.zeros((64, 96, 3), np.uint8)
    stored[:, :48] = 255  # left; EXIF orientation 6: the left side as stored is the top as shown
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "turned.heic"
    pillow_heif.from_pillow(Image.fromarray(stored)).save(path, exif=exif.tobytes())
    shown = np.asarray(load_image(path))
    assert shown.shape == (96, 64, 3)
    assert shown[:32].mean() > 230 > 25 > shown[-32:].mean()


def test_without_pillow_heif_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(heif, "heif_is_readable", lambda: False)
    path = tmp_path / "photo.heic"
    path.write_bytes(HEAD)
    for read in (load_image, image_size):
        with pytest.raises(ImageError, match=r"photo\.heic is a HEIC image.*pip install 'captioner\[heic\]'"):
            read(path)


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "GIF"])
def test_other_formats_are_not_taken_for_it(name: str) -> None:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, name)
    assert not is_heif(file.getvalue()[:12])
