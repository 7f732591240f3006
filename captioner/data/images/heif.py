"""HEIC photos, as phones take them, where the package pillow-heif is installed (extra [heic])."""

from __future__ import annotations

import functools
import importlib.util

from captioner.errors import ImageError

HEIF_SUFFIXES = frozenset({".heic", ".heif", ".hif"})

_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
"""The major brands of still images and sequences (ISO/IEC 23008-12, annex B)."""


def is_heif(head: bytes) -> bool:
    """Whether a file that starts with these bytes (12 or more) is a HEIF image, by its `ftyp` box."""
    return head[4:8] == b"ftyp" and head[8:12] in _BRANDS


def heif_is_readable() -> bool:
    """Whether pillow-heif is installed."""
    return importlib.util.find_spec("pillow_heif") is not None


@functools.cache
def _register() -> None:
    from pillow_heif import register_heif_opener

    register_heif_opener()


def enable_heif(name: str) -> None:
    """Make Pillow read HEIF images; ImageError about the image `name` where pillow-heif is not installed."""
    if not heif_is_readable():
        raise ImageError(
            f"{name} is a HEIC image, which needs pillow-heif: pip install 'captioner[heic]', or convert it to JPEG."
        )
    _register()
