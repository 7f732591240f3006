"""An image that is no file of its own: part of a tar archive, of a Parquet file, or several views of one sample."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod


class StoredImage(ABC):
    """Used like the path of an image file: by `name`, by its content, and by `str`, which is for messages.

    Subclasses are immutable, can be compared and pickled, and open their file for each image.
    """

    name: str

    @abstractmethod
    def read_bytes(self) -> bytes:
        """The content of the image file; OSError if it cannot be read."""

    def content_hash(self) -> str:
        """`hash_content` of `read_bytes`; OSError if it cannot be read."""
        return hash_content(self.read_bytes())

    def byte_count(self) -> int:
        """The number of bytes of the image file; OSError if it cannot be read."""
        return len(self.read_bytes())

    @property
    def known_size(self) -> int | None:
        """The number of bytes of the image file where it is known without reading the file, else None."""
        return None


def hash_content(content: bytes) -> str:
    """The hash of an image file by which the feature cache finds its features, in hexadecimal digits."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()
