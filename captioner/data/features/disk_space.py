"""A check that a disk has room for what is to be written."""

from __future__ import annotations

import shutil
from pathlib import Path

from captioner.errors import DataError


def existing_folder(folder: Path) -> Path:
    """The folder itself, or the nearest one around it that exists: on the disk that it will be on."""
    absolute = folder.absolute()
    return next(path for path in (absolute, *absolute.parents) if path.exists())


def check_disk_space(folder: Path, what: str, needed: int, advice: str) -> None:
    """DataError unless the disk of `folder` has `needed` bytes free. The folder need not exist yet.

    what: the subject of the message, in the plural; advice: what to do about it.
    """
    free = shutil.disk_usage(existing_folder(folder)).free
    if needed > free:
        raise DataError(f"{what} need {needed / 1e9:,.1f} GB, but {folder} has {free / 1e9:,.1f} GB free: {advice}")
