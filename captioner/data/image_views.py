"""Several images of one sample, such as the frontal and the lateral view of a chest X-ray."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from captioner.data.stored_image import StoredImage


@dataclass(frozen=True)
class ImageViews(StoredImage):
    """The images of one sample, two or more, which have their captions in common. name: that of the first."""

    name: str
    views: tuple[Path | StoredImage, ...]

    def __str__(self) -> str:
        return " + ".join(map(str, self.views))

    def read_bytes(self) -> bytes:
        """The content of all files in order, for a hash of the sample; it is no image."""
        return b"".join(view.read_bytes() for view in self.views)


def views_of(image: Path | StoredImage) -> tuple[Path | StoredImage, ...]:
    """The images of a sample: its views, or the image itself."""
    return image.views if isinstance(image, ImageViews) else (image,)
