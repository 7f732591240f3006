"""Atomic file writes: to a temporary file beside the target, flushed to disk, then renamed."""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from pathlib import Path
from typing import Any


def cache_directory() -> Path:
    """The folder of everything that can be computed again: `$CAPTIONER_CACHE` if set, else `~/.cache/captioner`.

    The folder is not created here.
    """
    configured = os.environ.get("CAPTIONER_CACHE")
    return Path(configured).expanduser() if configured else Path.home() / ".cache" / "captioner"


def write_atomically(path: Path, content: bytes) -> None:
    """Replace the file `path` by `content`; a kill at any moment leaves the old file or the new one, never a part.

    Raises OSError, which names `path`, if it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:  # without a file name, or with that of the temporary file
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with contextlib.suppress(OSError):  # the error above is the one to report
            temporary.unlink(missing_ok=True)


def is_unfinished(path: Path) -> bool:
    """Whether `path` is a temporary file or folder, left by a process that was killed. These are never read."""
    return path.name.startswith(".") and path.name.endswith(".tmp")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented UTF-8 JSON, atomically. Raises OSError."""
    write_atomically(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode("utf-8"))


def flush_folder(folder: Path) -> None:
    """Flush the files of `folder`, and renames inside it, to disk, if the operating system can flush folders."""
    if os.name != "posix":
        return
    for path in (*(path for path in folder.iterdir() if path.is_file()), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
