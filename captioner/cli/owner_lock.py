"""One run folder, one owner: a lock on `owner.lock` in it, held by the process that trains there.

Two trainings in one folder would remove each other's checkpoints. The lock is a POSIX record lock (`msvcrt` on
Windows): the system releases it when its process ends, for whatever reason, and worker processes do not inherit it. NFS
has such locks too, from version 4 on by itself. The file says who the owner is: host, process, and since when. Where a
file system has no locks this record decides: a process of this machine that does not run any more owns nothing.

Two bytes are locked: the first by whoever was started by a person, the second by whoever writes. With
`trainer.devices=N` these are two processes, and the writer may outlive its launcher for the time of a last save.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any

from captioner.errors import ConfigError, StorageError

LOCK_FILE = "owner.lock"
_FIRST_BYTE = 1 << 30  # far beyond the content: Windows does not let anyone read locked bytes
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


class Role(Enum):
    """What a process does with a run folder → the numbers of the bytes that it keeps locked."""

    ALONE = (0, 1)
    LAUNCHER = (0,)
    WRITER = (1,)  # of a job that a launcher has started


@contextmanager
def owned(folder: Path, shown: str, role: Role = Role.ALONE) -> Iterator[None]:
    """A context in which no other process trains in the run folder `folder`, which `shown` is for messages.

    ConfigError names the owner where there is one. StorageError where the folder cannot be written.
    """
    path = folder / LOCK_FILE
    try:
        descriptor = _open_locked(path, shown, role)
    except OSError as error:
        raise StorageError(f"{path} could not be written ({error.strerror or error}).") from error
    try:
        if role is not Role.WRITER:
            os.truncate(descriptor, 0)
            os.write(descriptor, json.dumps(_this_process()).encode())
        yield
    finally:
        if role is not Role.WRITER and _is_at(path, descriptor):
            path.unlink(missing_ok=True)  # before it is unlocked, so that nobody's new file is removed
        os.close(descriptor)


def _open_locked(path: Path, shown: str, role: Role) -> int:
    """The open lock file, with the bytes of `role` locked."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            needed = role if role is Role.WRITER else Role.ALONE
            is_locked = all(_may_own(descriptor, byte, role) for byte in needed.value)
            if is_locked and _is_at(path, descriptor):
                if role is Role.LAUNCHER:  # whoever else comes needs both bytes
                    _unlock(descriptor, *Role.WRITER.value)
                return descriptor
            record = _record(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        if not is_locked:
            raise ConfigError(_in_use(record, shown))
        # The owner has ended, and removed the file, since it was opened.


def _may_own(descriptor: int, byte: int, role: Role) -> bool:
    """Lock a byte of the open lock file; False if another process has it.

    Without locks the record decides, and the writer of a job relies on its launcher.
    """
    try:
        return _lock(descriptor, byte)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        record = _record(descriptor)
        return role is Role.WRITER or record is None or not owner_runs(record)


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether the open file is still the one at `path`."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _in_use(record: dict[str, Any] | None, shown: str) -> str:
    owner, stop = "another process", ""
    if record is not None:
        here = record["host"] == socket.gethostname()
        owner = f"process {record['pid']} on {record['host']}, since {record['since']}"
        stop = f" (kill {record['pid']}{'' if here else ' there'} lets it save first)"
    return (
        f"{shown} is in use by {owner}: two trainings in one run folder would remove each other's checkpoints. Wait "
        f"for it or stop it{stop}, or train in another folder. Nothing was changed."
    )


def _this_process() -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": process_start(os.getpid()),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def _record(descriptor: int) -> dict[str, Any] | None:
    """What the lock file says of its owner; None where it says nothing, or was altered."""
    try:
        os.lseek(descriptor, 0, os.SEEK_SET)
        record = json.loads(os.read(descriptor, 4096))
        return {**record, "host": str(record["host"]), "pid": int(record["pid"]), "since": str(record["since"])}
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def process_start(pid: int) -> str | None:
    """When a process of this machine started, to tell it from a later one with its number; "" if it does not run.

    None where the system does not say.
    """
    if not Path("/proc/self/stat").exists():
        return None
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except (OSError, ValueError):
        return ""
    return f"{boot} {fields[19]}"  # field 22 of proc(5): clock ticks since the boot


def owner_runs(record: dict[str, Any]) -> bool:
    """Whether the process of a record may still be running: always, for one of another machine."""
    if record["host"] != socket.gethostname():
        return True
    started = process_start(record["pid"])
    return started is None or started == record.get("started")


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int, byte: int) -> bool:
        """Lock a byte of an open file; False if another process has it."""
        os.lseek(descriptor, _FIRST_BYTE + byte, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)
        return True

    def _unlock(descriptor: int, byte: int) -> None:
        os.lseek(descriptor, _FIRST_BYTE + byte, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
        os.lseek(descriptor, 0, os.SEEK_SET)

else:
    import fcntl

    def _lock(descriptor: int, byte: int) -> bool:
        """Lock a byte of an open file; False if another process has it."""
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _FIRST_BYTE + byte)
        except (BlockingIOError, PermissionError):  # systems report one or the other
            return False
        return True

    def _unlock(descriptor: int, byte: int) -> None:
        with contextlib.suppress(OSError):  # without locks
            fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, _FIRST_BYTE + byte)
