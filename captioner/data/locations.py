"""Where files live that can be made again: the one answer for every cache."""

from __future__ import annotations

import os
from pathlib import Path


def cache_directory() -> Path:
    """`$CAPTIONER_CACHE` where it is set and not empty, else `~/.cache/captioner`. Not created here."""
    named = os.environ.get("CAPTIONER_CACHE")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "captioner"
