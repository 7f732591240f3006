"""The one data set type that every source ends in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, overload

from captioner.data.datasets.tar_shards.tar_image import ImageInTar

ImagePath: TypeAlias = Path | ImageInTar
"""Where an image lies. Both have a `name` and `read_bytes`, and `str` of them is for people."""

ImageId = int | str
"""COCO's integer; elsewhere the image's file name without its ending."""


@dataclass(frozen=True)
class Box:
    """Where an object stands in its image: pixels of the stored file, from the top left corner."""

    label: str
    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True)
class CaptionedImage:
    """One image and what people said of it. Captions are raw text, in the file's order; there may be none."""

    image_id: ImageId
    path: ImagePath
    captions: tuple[str, ...]
    boxes: tuple[Box, ...] = ()


@dataclass(frozen=True)
class CaptionDataset:
    """One split of one data set, in the annotation file's order, image ids unique.

    `split` is "train", "val" or "test". `notices` are sentences that a person should read before
    trusting a figure, such as "this is not the split the literature reports on". `images` is a tuple, or, of a
    data set that is larger than memory, a sequence that makes each image when it is asked for.
    """

    name: str
    split: str
    images: Sequence[CaptionedImage]
    notices: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[CaptionedImage]:
        return iter(self.images)

    @property
    def paths(self) -> Sequence[ImagePath]:
        """Where each image lies, found when it is asked for."""
        return _Paths(self.images)

    @property
    def references(self) -> dict[ImageId, list[str]]:
        """Image id → captions, as the metrics take them."""
        return {image.image_id: list(image.captions) for image in self.images}

    @property
    def all_captions(self) -> list[str]:
        """The captions of all images, one after the other."""
        return [caption for image in self.images for caption in image.captions]


@dataclass(frozen=True)
class _Paths(Sequence[ImagePath]):
    images: Sequence[CaptionedImage]

    def __len__(self) -> int:
        return len(self.images)

    @overload
    def __getitem__(self, index: int) -> ImagePath: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[ImagePath]: ...

    def __getitem__(self, index: int | slice) -> ImagePath | Sequence[ImagePath]:
        return _Paths(self.images[index]) if isinstance(index, slice) else self.images[index].path

    def __iter__(self) -> Iterator[ImagePath]:
        return (image.path for image in self.images)
