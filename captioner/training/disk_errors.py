"""A disk that is full, read-only or gone while a run writes to it: what is safe, and what to do."""

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
    errno.EROFS: "Its disk can only be read now: make it writable again.",
    errno.EACCES: "Make it writable again.",
    errno.EIO: "Its disk may be failing: copy the run folder to another one.",
    errno.ESTALE: "Its network disk was lost: bring it back.",
}


@contextmanager
def disk_errors_explained(run_folder: Path) -> Iterator[None]:
    """Inside, an OSError (a file of the run could not be written) becomes a StorageError that a person can act on."""
    try:
        yield
    except OSError as error:
        raise StorageError(explain_disk_error(error, run_folder)) from error


def explain_disk_error(error: OSError, run_folder: Path) -> str:
    """What could not be written and why, what can be done about it, and which checkpoint is whole."""
    if not run_folder.is_dir():
        return (
            f"{run_folder} is gone: it was removed or renamed while the run was writing to it. If it was renamed, its "
            "checkpoints are where it is now."
        )
    what = f"{error.filename or run_folder} could not be written ({error.strerror or error})."
    advice = f" {_ADVICE[error.errno]}" if error.errno in _ADVICE else ""
    try:
        index = read_index(run_folder)
    except CheckpointError:
        index = None
    safe = f" The checkpoint {index.latest} is whole." if index is not None else " There is no checkpoint yet."
    return what + advice + safe
