"""Several images of one sample, such as the frontal and the lateral view of a chest X-ray."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from captioner.data.stored_image import StoredImage
from captioner.errors import ImageError


@dataclass(frozen=True)
class ImageViews(StoredImage):
    """The images of one sample, two or more, which have their captions in common. name: that of the first."""

    name: str
    views: tuple[Path | StoredImage, ...]

    @classmethod
    def of(cls, *views: str | Path | StoredImage) -> ImageViews:
        """A sample of these images, such as `ImageViews.of("frontal.png", "lateral.png")`."""
        paths = tuple(Path(view) if isinstance(view, str) else view for view in views)
        if len(paths) < 2:
            raise ImageError(f"A sample of several images needs two or more, and got {len(paths)}.")
        return cls(paths[0].name, paths)

    def __str__(self) -> str:
        return " + ".join(map(str, self.views))

    def read_bytes(self) -> bytes:
        """The content of all files in order, for a hash of the sample; it is no image."""
        return b"".join(view.read_bytes() for view in self.views)


def views_of(image: Path | StoredImage) -> tuple[Path | StoredImage, ...]:
    """The images of a sample: its views, or the image itself."""
    return image.views if isinstance(image, ImageViews) else (image,)
