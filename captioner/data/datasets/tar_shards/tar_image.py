"""One image inside a tar archive: what a path is to an image in a folder."""

from __future__ import annotations

import errno
import zlib
from dataclasses import dataclass
from pathlib import Path

from captioner.data.datasets.tar_shards.members import BLOCK


@dataclass(frozen=True)
class ImageInTar:
    """`size` bytes at `offset` of `archive`, right behind a header whose CRC-32 is `header_crc`.

    The archive is opened for each image: that takes a hundredth of the time that decoding does, and no open file
    is shared between processes that were forked from one another.
    """

    archive: Path
    name: str
    offset: int
    size: int
    header_crc: int

    def __str__(self) -> str:
        return f"{self.archive}:{self.name}"

    def read_bytes(self) -> bytes:
        """The image file; OSError where the archive cannot be read, or is not the one that was indexed."""
        with self.archive.open("rb") as file:
            file.seek(self.offset - BLOCK)
            content = file.read(BLOCK + self.size)
        if len(content) != BLOCK + self.size or zlib.crc32(content[:BLOCK]) != self.header_crc:
            raise OSError(errno.EIO, "the archive has changed since it was indexed")
        return content[BLOCK:]
