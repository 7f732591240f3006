"""One image inside a tar archive, used like the path of an image in a folder."""

from __future__ import annotations

import errno
import zlib
from dataclasses import dataclass
from pathlib import Path

from captioner.data.datasets.tar_shards.members import BLOCK
from captioner.data.stored_image import StoredImage


@dataclass(frozen=True)
class ImageInTar(StoredImage):
    """`size` bytes at `offset` of `archive`, directly after a header with the CRC-32 `header_crc`.

    The archive is opened for each image. That takes a hundredth of the time of decoding, and processes that were
    forked from each other share no open file.
    """

    archive: Path
    name: str
    offset: int
    size: int
    header_crc: int

    def __str__(self) -> str:
        return f"{self.archive}:{self.name}"

    def byte_count(self) -> int:
        """The number of bytes of the image file."""
        return self.size

    def read_bytes(self) -> bytes:
        """The content of the image file; OSError if the archive cannot be read or has changed since it was indexed."""
        with self.archive.open("rb") as file:
            file.seek(self.offset - BLOCK)
            content = file.read(BLOCK + self.size)
        if len(content) != BLOCK + self.size or zlib.crc32(content[:BLOCK]) != self.header_crc:
            raise OSError(errno.EIO, "the archive has changed since it was indexed")
        return content[BLOCK:]
