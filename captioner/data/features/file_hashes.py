"""The hashes of image files, stored so that a start need not read every image again.

COCO's images have 19 GB; reading and hashing them takes half a minute of processor time, and the disk's time besides.
For each folder of images one file keeps each name with the file's size, its times of modification and change, its inode
number and its hash. A file for which any of these differs is hashed again. Linux sets the time of change itself, so a
file that is replaced, also by one of the same size and date, is noticed. A file that was changed in the last seconds is
not stored, because it may change once more within the clock's resolution.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import time
from pathlib import Path
from struct import Struct

import numpy as np

from captioner.data.stored_image import hash_content
from captioner.files import folder_and_name, write_atomically

SETTLED = 10.0  # seconds since its last change after which a file's hash is stored
FORMAT_VERSION = 1
CHECKSUM_BYTES = 16


_STAMP = Struct("4q")  # size, times of modification and change in ns, inode number


class FileHashes:
    """The hashes of files. `of` looks one up or computes it; `save` stores what is new.

    folder: where they are stored; None: nowhere.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._known: dict[str, dict[str, bytes]] = {}  # folder of images → name → stamp and hash, in little memory
        self._changed: set[str] = set()  # folders of images with new hashes

    def of(self, path: Path) -> str:
        """`hash_content` of a file; OSError if it cannot be read."""
        if self.folder is None:
            return hash_content(path.read_bytes())
        file = os.fspath(path)  # once: for a Path every call of the system would make the string again
        parent, name = folder_and_name(file)
        if parent not in self._known:
            self._known[parent] = self._load(parent)
        known = self._known[parent]
        found = os.stat(file)  # noqa: PTH116 - twice as fast as path.stat(), for every image of a data set
        stamp = _STAMP.pack(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
        if name in known and known[name].startswith(stamp):
            return known[name][_STAMP.size :].hex()
        digest = hash_content(read_content(file, found.st_size))
        if max(found.st_mtime_ns, found.st_ctime_ns) < (time.time() - SETTLED) * 1e9:
            known[name] = stamp + bytes.fromhex(digest)
            self._changed.add(parent)
        return digest

    def save(self) -> None:
        """Store the new hashes. Where that is not possible, the files are hashed again next time."""
        for parent in self._changed:
            known = self._known[parent]
            buffer = io.BytesIO()
            np.savez(
                buffer,
                names=np.frombuffer("\0".join(known).encode("utf-8", "surrogateescape"), np.uint8),
                stamps=np.frombuffer(b"".join(row[: _STAMP.size] for row in known.values()), np.int64).reshape(-1, 4),
                hashes=np.frombuffer(b"".join(row[_STAMP.size :] for row in known.values()), np.uint8),
            )
            with contextlib.suppress(OSError):  # a folder that is read-only, or full
                path = self._file(parent)
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(path, _checksum(buffer.getvalue()) + buffer.getvalue())
        self._changed.clear()

    def _load(self, parent: str) -> dict[str, bytes]:
        try:
            content = self._file(parent).read_bytes()
        except OSError:
            return {}  # there is none yet
        if content[:CHECKSUM_BYTES] != _checksum(content[CHECKSUM_BYTES:]):
            return {}  # damaged, or of another version: the files are hashed again
        with np.load(io.BytesIO(content[CHECKSUM_BYTES:])) as stored:
            names = stored["names"].tobytes().decode("utf-8", "surrogateescape").split("\0")
            stamps, digests = (stored[part].reshape(len(names), -1).view(np.uint8) for part in ("stamps", "hashes"))
        rows = np.concatenate([stamps, digests], axis=1)
        return dict(zip(names, map(np.ndarray.tobytes, rows), strict=True))

    def _file(self, parent: str) -> Path:
        assert self.folder is not None
        name = hashlib.blake2b(os.path.abspath(parent).encode("utf-8", "surrogateescape"), digest_size=16)  # noqa: PTH100
        return self.folder / f"{name.hexdigest()}.npz"


def read_content(path: str, size: int) -> bytes:
    """What `Path.read_bytes` returns, in half its time for a small file. size: the file's, as far as is known."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0))
    parts = []
    try:
        while part := os.read(descriptor, size + 1):
            parts.append(part)
    finally:
        os.close(descriptor)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _checksum(content: bytes) -> bytes:
    key = f"format {FORMAT_VERSION}".encode()
    return hashlib.blake2b(content, digest_size=CHECKSUM_BYTES, key=key).digest()
