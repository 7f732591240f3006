"""Captions files in COCO's format: {"images": [{"id", "file_name"}], "annotations": [{"image_id", "caption"}]}."""

from __future__ import annotations

import contextlib
import io
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

from captioner.data.dataset import ImageId
from captioner.data.datasets.annotation_files import get_field, join_names, read_json
from captioner.errors import DataError


class AnnotatedImage(NamedTuple):
    """One entry of a COCO captions file."""

    image_id: ImageId
    file_name: str
    captions: tuple[str, ...]
    split: str | None  # not part of COCO's format, but allowed in a user's own file


def read_captions(path: Path) -> list[AnnotatedImage]:
    """The images of a COCO captions file, in the file's order, with their captions.

    DataError if the file is missing or not JSON, lacks `images` or `annotations`, or has captions of unlisted images.
    """
    collected = _Collected()
    found = collected.images_of(read_json(path, collected.keep))
    return captioned_images(read_json(path), path) if found is None else found


def captioned_images(data: object, path: Path, *, need_names: bool = True) -> list[AnnotatedImage]:
    """`read_captions` for the content of a file; `path` is for messages.

    need_names: whether every image must have a `file_name`; without it, the name is "" where there is none.
    """
    images = get_field(data, "images", list, f"{path}")
    annotations = get_field(data, "annotations", list, f"{path}")
    where = f"{path}: images"
    names: dict[ImageId, str] = {}
    splits: dict[ImageId, str | None] = {}
    for number, image in enumerate(images):
        image_id = get_field(image, "id", (int, str), where, number)
        if image_id in names:
            raise DataError(f"{where}[{number}] repeats the id {image_id!r} of an earlier image.")
        has_name = need_names or "file_name" in image
        names[image_id] = get_field(image, "file_name", str, where, number) if has_name else ""
        splits[image_id] = get_field(image, "split", str, where, number) if "split" in image else None
    where = f"{path}: annotations"
    captions = [
        {
            "id": number,
            "image_id": get_field(annotation, "image_id", (int, str), where, number),
            "caption": get_field(annotation, "caption", str, where, number),
        }
        for number, annotation in enumerate(annotations)
    ]
    unlisted = list(dict.fromkeys(c["image_id"] for c in captions if c["image_id"] not in names))
    if unlisted:
        raise DataError(
            f"{path}: captions belong to {len(unlisted):,} image ids that are not among its images "
            f"({join_names(map(repr, unlisted))}). Do images and annotations come from the same file?"
        )
    index = pycocotools_index({"images": images, "annotations": captions})
    return [
        AnnotatedImage(image_id, name, tuple(c["caption"] for c in index.imgToAnns.get(image_id, ())), splits[image_id])
        for image_id, name in names.items()
    ]


def pycocotools_index(dataset: dict[str, list[dict[str, Any]]]) -> Any:
    """A pycocotools COCO object with the content of an annotation file that was read and checked."""
    from pycocotools.coco import COCO

    coco = COCO()
    coco.dataset = dataset
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints every step
        coco.createIndex()
    return coco


class _Kept(Enum):
    """What stands in a parsed file for an object of which all that is needed has been kept."""

    IMAGE, CAPTION = range(2)


class _Collected:
    """Collects images and captions of a captions file while it is parsed: only what is needed of them.

    COCO's training captions would take 600 MB as dictionaries with all their addresses.
    """

    def __init__(self) -> None:
        self.images: list[tuple[ImageId, str]] = []  # id and file name
        self.captions: list[str] = []
        self.captioned: list[ImageId] = []  # the image of each caption

    def keep(self, record: dict[str, Any]) -> dict[str, Any] | _Kept:
        """The object hook: keeps an image or caption with which nothing is wrong, and leaves others in the file."""
        if "caption" in record and "file_name" not in record:
            image_id, caption = record.get("image_id"), record["caption"]
            if type(image_id) is int and type(caption) is str and (caption.isascii() or _is_text(caption)):
                self.captioned.append(image_id)
                self.captions.append(caption)
                return _Kept.CAPTION
        elif "file_name" in record and "caption" not in record and "split" not in record:
            image_id, name = record.get("id"), record["file_name"]
            if type(image_id) is int and type(name) is str and (name.isascii() or _is_text(name)):
                self.images.append((image_id, name))
                return _Kept.IMAGE
        return record

    def images_of(self, data: object) -> list[AnnotatedImage] | None:
        """`captioned_images` for a file that was parsed with `keep`; None where that could not be done for all of it,
        because ids are strings, images have splits, or something is wrong."""
        images, annotations = (data.get("images"), data.get("annotations")) if type(data) is dict else (None, None)
        if type(images) is not list or type(annotations) is not list:
            return None
        captions: dict[ImageId, list[str]] = {image_id: [] for image_id, _ in self.images}
        if not len(captions) == len(self.images) == len(images) == images.count(_Kept.IMAGE):
            return None  # an id is repeated, or an image is something else, or elsewhere
        if not len(self.captions) == len(annotations) == annotations.count(_Kept.CAPTION):
            return None
        try:
            for image_id, caption in zip(self.captioned, self.captions, strict=True):
                captions[image_id].append(caption)
        except KeyError:
            return None  # a caption of an image that is not listed
        return [AnnotatedImage(image_id, name, tuple(captions[image_id]), None) for image_id, name in self.images]


def _is_text(value: str) -> bool:
    """Whether the string can be written as UTF-8."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
