"""A check that a disk has room for what is to be written."""

from __future__ import annotations

import shutil
from pathlib import Path

from captioner.errors import DataError


def check_disk_space(folder: Path, what: str, needed: int, advice: str) -> None:
    """DataError unless the disk of `folder` has `needed` bytes free. The folder need not exist yet.

    what: the subject of the message, in the plural; advice: what to do about it.
    """
    absolute = folder.absolute()
    existing = next(path for path in (absolute, *absolute.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise DataError(f"{what} need {needed / 1e9:,.1f} GB, but {folder} has {free / 1e9:,.1f} GB free: {advice}")
