"""Where an archive is: a file, or a URL. Both have `name` and `stem`, and `str` of them is for messages."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, cast

from captioner.data.datasets.tar_shards.remote import RemoteArchive, RemoteFile
from captioner.errors import DataError

Archive: TypeAlias = Path | RemoteArchive


def absolute_name(archive: Archive) -> str:
    """The URL, or the absolute path; links are not followed."""
    return archive.url if isinstance(archive, RemoteArchive) else os.path.abspath(archive)  # noqa: PTH100


def identity(archive: Archive) -> dict[str, Any]:
    """Values that differ between archives, and before and after a change; DataError if it cannot be read."""
    if isinstance(archive, RemoteArchive):
        return archive.identity()
    try:
        status = archive.stat()
    except OSError as error:
        raise DataError(f"{archive} cannot be read: {error.strerror}.") from error
    return {"path": absolute_name(archive), "size": status.st_size, "time": status.st_mtime_ns}


def open_archive(archive: Archive, size: int) -> BinaryIO:
    """The archive, of `size` bytes, to be read from its start to its end; DataError if it cannot be opened."""
    if isinstance(archive, RemoteArchive):
        return cast("BinaryIO", RemoteFile(archive, size))
    return open_file(archive)


def read_range(archive: Archive, start: int, size: int) -> bytes:
    """Up to `size` bytes from `start`. OSError if a file, DataError if a server cannot be read.

    A file is opened for each call. That takes a hundredth of the time of decoding an image, and processes that were
    forked from each other share no open file.
    """
    if isinstance(archive, RemoteArchive):
        return archive.read_range(start, size)
    with archive.open("rb") as file:
        file.seek(start)
        return file.read(size)


def open_file(path: Path) -> BinaryIO:
    """A file for reading bytes; DataError if it cannot be opened."""
    try:
        return path.open("rb")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
