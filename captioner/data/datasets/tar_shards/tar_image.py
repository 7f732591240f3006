"""One image inside a tar archive, used like the path of an image in a folder."""

from __future__ import annotations

import errno
import zlib
from dataclasses import dataclass

from captioner.data.datasets.tar_shards.members import BLOCK
from captioner.data.datasets.tar_shards.tar_archive import Archive, read_range
from captioner.data.stored_image import StoredImage


@dataclass(frozen=True)
class ImageInTar(StoredImage):
    """`size` bytes at `offset` of `archive`, directly after a header with the CRC-32 `header_crc`.

    stored_hash: that of the content, if it was computed when the archive was indexed.
    """

    archive: Archive
    name: str
    offset: int
    size: int
    header_crc: int
    stored_hash: str = ""

    def __str__(self) -> str:
        return f"{self.archive}:{self.name}"

    def content_hash(self) -> str:
        """See `StoredImage`. An image of a remote archive is not read again."""
        return self.stored_hash or super().content_hash()

    def byte_count(self) -> int:
        """The number of bytes of the image file."""
        return self.size

    @property
    def known_size(self) -> int | None:
        """The number of bytes of the image file: it is in the archive's index."""
        return self.size

    def read_bytes(self) -> bytes:
        """The content of the image file; OSError if the archive cannot be read or has changed since it was indexed.

        DataError if a server does not send it.
        """
        content = read_range(self.archive, self.offset - BLOCK, BLOCK + self.size)
        if len(content) != BLOCK + self.size or zlib.crc32(content[:BLOCK]) != self.header_crc:
            raise OSError(errno.EIO, "the archive has changed since it was indexed")
        return content[BLOCK:]
