"""Locks on the shards of a feature cache, so that several processes can fill one cache.

Before a process computes a shard, it writes the shard's keys into `shard-<id>.claim` and holds an operating system
lock on that file until the shard is written. The system releases the lock when the process ends, for whatever reason.
So if another process can lock such a file, its owner is dead: the file and the owner's unfinished data are removed, and
its images can be computed again. Lock files are only created under the lock of the folder, by one process at a time.

The locks are `flock` locks (`msvcrt` on Windows). Local disks support them, and NFS from version 4 on.
"""

from __future__ import annotations

import json
import os
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any

WAIT = 0.05  # seconds between attempts to take the folder's lock


class ShardLocks:
    """The shards of one folder that this process is computing. Leaving the `with` block releases all of them.

    Raises OSError if the folder cannot be written or its file system has no locks.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[str, IO[str]] = {}  # shard → its lock file, locked while it is open

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """A `with` block under the folder's lock: no other process can lock new shards meanwhile."""
        with (self.folder / "lock").open("a") as file:
            while not lock_open_file(file):
                time.sleep(WAIT)
            yield

    def keys_locked_elsewhere(self) -> set[str]:
        """The keys that other running processes are computing. Removes what dead ones left. Call inside `exclusive`."""
        keys: set[str] = set()
        running = set(self._files)
        for name in os.listdir(self.folder):  # noqa: PTH208 - names, because a large cache has thousands of shards
            shard = name.removesuffix(".claim")
            if shard == name or not name.startswith("shard-") or shard in self._files:
                continue
            if (locked := _locked_keys(self._path(shard))) is not None:
                running.add(shard)
                keys |= locked
        self._remove_orphans(running)
        return keys

    def lock_new_shard(self, keys: Sequence[str]) -> str:
        """Create and lock a new shard for `keys`; returns its name. Call inside `exclusive`."""
        name = f"shard-{uuid.uuid4().hex[:12]}"
        file = self._path(name).open("x+", encoding="utf-8")
        self._files[name] = file
        if not lock_open_file(file):
            raise BlockingIOError(f"{self._path(name)} is locked although it is new")
        json.dump(list(keys), file)
        file.flush()
        return name

    def release(self, name: str) -> None:
        """Unlock a shard that is written, or that will not be."""
        self._files.pop(name).close()
        self._path(name).unlink(missing_ok=True)

    def __enter__(self) -> ShardLocks:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in list(self._files):
            self.release(name)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.claim"

    def _remove_orphans(self, running: set[str]) -> None:
        """Remove files that no running process will complete: data without a listing, and temporary files.

        The folder is listed again: a process that has ended since the locks were looked at has written its listing.
        """
        names = set(os.listdir(self.folder))  # noqa: PTH208
        for name in names:
            shard = name.lstrip(".").split(".")[0]
            unlisted = name.endswith(".f16") and f"{shard}.json" not in names
            if shard.startswith("shard-") and shard not in running and (unlisted or name.endswith(".tmp")):
                (self.folder / name).unlink(missing_ok=True)


def _locked_keys(path: Path) -> set[str] | None:
    """The keys in a lock file, or None if its owner has released it or is dead; a dead owner's file is removed."""
    try:
        with path.open("r+", encoding="utf-8") as file:
            if not lock_open_file(file):
                return set(json.load(file))
    except FileNotFoundError:  # released since the folder was listed
        return None
    path.unlink(missing_ok=True)
    return None


if sys.platform == "win32":
    import msvcrt

    def lock_open_file(file: IO[Any]) -> bool:
        """Lock an open file until it is closed; False if another process has the lock.

        Locks one byte far beyond the content, because msvcrt's locks also block reading.
        """
        file.seek(1 << 30)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            file.seek(0)
        return True

else:
    import fcntl

    def lock_open_file(file: IO[Any]) -> bool:
        """Lock an open file until it is closed; False if another process has the lock."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
