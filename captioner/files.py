"""Atomic writes of files and folders: beside the target under a temporary name, flushed to disk, then renamed.

A temporary name says which process made it. What a process has left that was killed is removed when another one writes
to the same folder: see `remove_leftovers`.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shutil
import socket
import time
import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

LONGEST_NAME = 200  # bytes of the target's name in a temporary one; a name has 255 at most
FORGOTTEN = 24 * 3600.0  # seconds after which a temporary file of another machine was left by a dead process
_TEMPORARY = re.compile(r"\..*\.([0-9a-f]{8})-(\d+)-\d+\.tmp")
_numbers = itertools.count(1)
_looked_at: set[str] = set()  # folders in which this process has removed leftovers


def cache_directory() -> Path:
    """The folder of everything that can be computed again: `$CAPTIONER_CACHE` if set, else `~/.cache/captioner`.

    The folder is not created here.
    """
    configured = os.environ.get("CAPTIONER_CACHE")
    return Path(configured).expanduser() if configured else Path.home() / ".cache" / "captioner"


def folder_and_name(path: Path | str) -> tuple[str, str]:
    """The folder, with its separator (empty where the path has none), and the file's name, faster than `os.path.split`:
    it is asked for every image of a data set."""
    file = os.fspath(path)
    start = file.rfind(os.sep) + 1
    return file[:start], file[start:]


def write_atomically(path: Path, content: bytes) -> None:
    """Replace the file `path` by `content`; a kill at any moment leaves the old file or the new one, never a part.

    Raises OSError, which names `path`, if it cannot be written.
    """
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        file.write(content)


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """The path of a temporary file that the block writes: it replaces `path` then, or is removed if the block fails.

    Raises OSError, which names `path`, if it cannot be written.
    """
    temporary = temporary_beside(path)
    try:
        with _errors_named(temporary, path):
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):  # the error above is the one to report
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """A new folder that the block fills: it is renamed to `target` then, or removed if the block fails.

    `target` must not exist, or be an empty folder. Raises OSError, which names `target`, if it cannot be written.
    """
    temporary = temporary_beside(target)
    try:
        with _errors_named(temporary, target):
            temporary.mkdir(parents=True)
            yield temporary
            for folder in (*(path for path in temporary.rglob("*") if path.is_dir()), temporary):
                flush_folder(folder)
            temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def restore_replaced(target: Path) -> None:
    """Bring back the folder that `replacing_folder` was replacing when its process was killed between two renames."""
    old = _replaced(target)
    if old.exists() and not target.exists():
        old.rename(target)


@contextlib.contextmanager
def replacing_folder(target: Path) -> Iterator[Path]:
    """`atomic_folder` for a target that may exist: it is replaced when the block has succeeded, and stays otherwise."""
    restore_replaced(target)
    old = _replaced(target)
    shutil.rmtree(old, ignore_errors=True)
    try:
        with atomic_folder(target) as temporary:
            yield temporary
            if target.exists():
                target.rename(old)
    except BaseException:
        restore_replaced(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _replaced(target: Path) -> Path:
    return target.with_name(f".{target.name}.replaced")


@contextlib.contextmanager
def _errors_named(temporary: Path, path: Path) -> Iterator[None]:
    """A context in which an OSError without a file name, or of the temporary file, names `path`."""
    try:
        yield
    except OSError as error:
        if error.filename is not None and not str(error.filename).startswith(str(temporary)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def temporary_beside(path: Path) -> Path:
    """A temporary name in the folder of `path`. Removes what killed processes have left there, once per folder."""
    remove_leftovers(path.parent)
    name = path.name.encode("utf-8", "surrogateescape")[:LONGEST_NAME].decode("utf-8", "ignore")
    return path.with_name(f".{name}.{_machine()}-{os.getpid()}-{next(_numbers)}.tmp")


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files and folders in `folder` whose processes have ended, once per folder and process.

    Only names that `temporary_beside` makes are touched. Of another machine's process it is not known whether it runs:
    its files are removed when they have not changed for a day.
    """
    if str(folder) in _looked_at or not folder.is_dir():
        return
    _looked_at.add(str(folder))
    with contextlib.suppress(OSError):  # a folder that cannot be listed: whoever writes there reports it
        for path in folder.iterdir():
            match = _TEMPORARY.fullmatch(path.name)
            if match is not None and not _may_be_written(path, match[1], int(match[2])):
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _may_be_written(path: Path, machine: str, process: int) -> bool:
    """Whether the process that made a temporary file may still be running."""
    if machine != _machine() or os.name != "posix":
        return time.time() - path.stat().st_mtime < FORGOTTEN
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # it runs as another user; or there is no such number
        return True
    return True


@lru_cache(maxsize=1)
def _machine() -> str:
    """A name for this machine since its start, and for the container in which this process can see others."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts += [Path("/proc/sys/kernel/random/boot_id").read_text(), str(Path("/proc/self/ns/pid").readlink())]
    return f"{zlib.crc32(' '.join(parts).encode()):08x}"


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
