"""Files that are either whole or not there: written beside, flushed to disk, renamed into place."""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from pathlib import Path
from typing import Any


def write_atomically(path: Path, content: bytes) -> None:
    """Replace `path` by `content`; a kill at any moment leaves the old file or the new one, never a part.

    Raises OSError, which names `path`, where it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:  # a full disk names no file, and others name one that nobody knows
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with contextlib.suppress(OSError):  # what went wrong above is what matters
            temporary.unlink(missing_ok=True)


def is_unfinished(path: Path) -> bool:
    """Is this what a kill left of a file or folder that was being written? Nothing ever reads it."""
    return path.name.startswith(".") and path.name.endswith(".tmp")


def write_json(path: Path, value: Any) -> None:
    """`value` as readable UTF-8 JSON, atomically."""
    write_atomically(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode("utf-8"))


def flush_folder(folder: Path) -> None:
    """Make the files of `folder`, and renames inside it, survive a power cut, where the system can flush a folder."""
    if os.name != "posix":
        return
    for path in (*(path for path in folder.iterdir() if path.is_file()), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
