"""An image that is no file of its own: part of a tar archive, of a Parquet file, or several views of one sample."""

from __future__ import annotations

from abc import ABC, abstractmethod


class StoredImage(ABC):
    """Used like the path of an image file: by `name`, by its content, and by `str`, which is for messages.

    Subclasses are immutable, can be compared and pickled, and open their file for each image.
    """

    name: str

    @abstractmethod
    def read_bytes(self) -> bytes:
        """The content of the image file; OSError if it cannot be read."""

    def byte_count(self) -> int:
        """The number of bytes of the image file; OSError if it cannot be read."""
        return len(self.read_bytes())
