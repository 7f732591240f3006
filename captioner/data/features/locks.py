"""Who computes which shard, where several processes fill one cache.

A filler writes what it is about to compute into `shard-<id>.claim` and holds a lock of the operating system on
that file until the shard is there. The system takes the lock away when the process ends, however it ends; so a
claim that can be locked is a dead process's: it and what its owner left half-written are removed, and its
images are free again. All claims are made under one lock of the folder, one process at a time.

The locks are `flock`'s (on Windows `msvcrt`'s), which local disks have, and NFS from version 4 on.
"""

from __future__ import annotations

import json
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO

WAIT = 0.05  # seconds between two looks at a lock that another process holds


class Claims:
    """This process's claims in one folder; at the end of the `with` block those that are left are given up.

    Raises OSError where the folder cannot be written or its file system has no locks.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[str, IO[str]] = {}  # shard → its claim, locked by being open

    @contextmanager
    def alone(self) -> Iterator[None]:
        """No other process makes claims meanwhile."""
        with (self.folder / "lock").open("a") as file:
            while not _lock(file):
                time.sleep(WAIT)
            yield

    def of_others(self) -> set[str]:
        """Keys that other living processes are computing; what dead ones left is removed. Call inside `alone`."""
        keys: set[str] = set()
        living = set(self._files)
        for path in self.folder.glob("shard-*.claim"):
            if path.stem not in self._files and (claimed := _living_claim(path)) is not None:
                living.add(path.stem)
                keys |= claimed
        self._remove_orphans(living)
        return keys

    def take(self, keys: Sequence[str]) -> str:
        """Claim a new shard of `keys`; returns its name. Call inside `alone`."""
        name = f"shard-{uuid.uuid4().hex[:12]}"
        file = self._path(name).open("x+", encoding="utf-8")
        self._files[name] = file
        if not _lock(file):
            raise BlockingIOError(f"{self._path(name)} is locked although it is new")
        json.dump(list(keys), file)
        file.flush()
        return name

    def release(self, name: str) -> None:
        """The shard is there, or will not be made."""
        self._files.pop(name).close()
        self._path(name).unlink(missing_ok=True)

    def __enter__(self) -> Claims:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in list(self._files):
            self.release(name)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.claim"

    def _remove_orphans(self, living: set[str]) -> None:
        """Files that no living process will complete: data without a listing, and parts that were never renamed."""
        paths = {path.name: path for path in self.folder.iterdir()}
        for name, path in paths.items():
            shard = name.lstrip(".").split(".")[0]
            unlisted = name.endswith(".f16") and f"{shard}.json" not in paths
            if shard.startswith("shard-") and shard not in living and (unlisted or name.endswith(".tmp")):
                path.unlink(missing_ok=True)


def _living_claim(path: Path) -> set[str] | None:
    """The keys of a claim whose owner lives; None, and the claim is removed, where it does not."""
    try:
        with path.open("r+", encoding="utf-8") as file:
            if not _lock(file):
                return set(json.load(file))
    except FileNotFoundError:  # its owner has just released it
        return None
    path.unlink(missing_ok=True)
    return None


if sys.platform == "win32":
    import msvcrt

    def _lock(file: IO[str]) -> bool:
        """Lock an open file until it is closed; False where another has it. A byte far behind what others read."""
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

    def _lock(file: IO[str]) -> bool:
        """Lock an open file until it is closed; False where another has it."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
