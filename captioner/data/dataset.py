"""The data set type that every reader returns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias, overload

from captioner.data.stored_image import StoredImage
from captioner.text.object_words import ImageObjects

ImagePath: TypeAlias = Path | StoredImage
"""Where an image is stored. Both types have `name` and `read_bytes`, and `str` of them is for messages."""

ImageId = int | str
"""COCO's integer id; in most other data sets the image's file name without its suffix."""


@dataclass(frozen=True)
class Box:
    """The bounding box of an object, in pixels of the image file, from the top left corner."""

    label: str
    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class CaptionedImage:
    """One image with its reference captions: raw text, in the file's order; there may be none."""

    image_id: ImageId
    path: ImagePath
    captions: tuple[str, ...]
    boxes: tuple[Box, ...] = ()


@dataclass(frozen=True)
class CaptionDataset:
    """One split of a data set, in the order of the annotation file, with unique image ids.

    split: "train", "val" or "test".
    images: a tuple, or, for data sets larger than memory, a sequence that creates each image on access.
    notices: messages to read before trusting a score, such as "this is not the split that papers report on".
    label_names: label of a box → the words or phrases that name it in captions; see `object_names`.
    objects: the annotated objects of the images, once `add_objects` has loaded them.
    """

    name: str
    split: str
    images: Sequence[CaptionedImage]
    notices: tuple[str, ...] = ()
    label_names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    objects: ImageObjects | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[CaptionedImage]:
        return iter(self.images)

    @property
    def paths(self) -> Sequence[ImagePath]:
        """The location of each image, looked up on access."""
        return _Paths(self.images)

    @property
    def references(self) -> dict[ImageId, list[str]]:
        """Image id → reference captions, the format of the metrics."""
        return {image.image_id: list(image.captions) for image in self.images}

    @property
    def all_captions(self) -> list[str]:
        """The captions of all images, in order."""
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
