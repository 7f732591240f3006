"""Where files live that can be made again, the one answer for every cache; and whether the disk has room for files."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from captioner.errors import DataError


def cache_directory() -> Path:
    """`$CAPTIONER_CACHE` where it is set and not empty, else `~/.cache/captioner`. Not created here."""
    named = os.environ.get("CAPTIONER_CACHE")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "captioner"


def check_disk_space(folder: Path, what: str, needed: int, advice: str) -> None:
    """DataError where the disk of `folder`, which may not be there yet, does not have the `needed` bytes free."""
    place = folder.absolute()
    there = next(path for path in (place, *place.parents) if path.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise DataError(f"{what} need {needed / 1e9:,.1f} GB, but {folder} has {free / 1e9:,.1f} GB free: {advice}")
