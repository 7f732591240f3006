"""Errors of a full, read-only or missing disk: what to do, and which checkpoint is intact."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from captioner.checkpoint.index import read_index
from captioner.errors import CheckpointError, StorageError

_ADVICE = {
    errno.ENOSPC: "Free some space on its disk.",
    errno.EDQUOT: "Free some space: your quota there is used up.",
    errno.EROFS: "Its disk is read-only now: make it writable again.",
    errno.EACCES: "Make it writable again.",
    errno.EIO: "Its disk may be failing: copy the run folder to another one.",
    errno.ESTALE: "Its network disk was lost: mount it again.",
}


@contextmanager
def disk_errors_explained(run_folder: Path) -> Iterator[None]:
    """A context in which an OSError, of a file that could not be written, becomes a StorageError with advice."""
    try:
        yield
    except OSError as error:
        raise StorageError(explain_disk_error(error, run_folder)) from error


def explain_disk_error(error: OSError, run_folder: Path) -> str:
    """The message of an OSError: the file, the reason, what to do, and which checkpoint is intact."""
    if not run_folder.is_dir():
        return (
            f"{run_folder} is gone: it was removed or renamed while the run was writing to it. If it was renamed, its "
            "checkpoints are in the renamed folder."
        )
    what = f"{error.filename or run_folder} could not be written ({error.strerror or error})."
    advice = f" {_ADVICE[error.errno]}" if error.errno in _ADVICE else ""
    try:
        index = read_index(run_folder)
    except CheckpointError:
        index = None
    safe = f" The checkpoint {index.latest} is intact." if index is not None else " There is no checkpoint yet."
    return what + advice + safe
