"""Loads any data set by its settings.

Each data set has a reader, which returns its splits as its files define them. This module adds what all data sets have
in common: names of splits, the check for unique image ids, missing images, blank captions, and `data.limit`.
docs/extending.md shows how to add a data set.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Hashable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from captioner.config import DATASETS, DataConfig
from captioner.data.collection import collection_paused
from captioner.data.dataset import Box, CaptionDataset, CaptionedImage, ImageId, ImagePath
from captioner.data.datasets.annotation_files import data_root, join_names, path_exists
from captioner.data.datasets.image_files import missing_files
from captioner.data.datasets.splits import split_name
from captioner.data.image_views import ImageViews
from captioner.errors import ConfigError, DataError, near_misses
from captioner.files import folder_and_name
from captioner.registry import load_object
from captioner.text.object_words import ImageObjects, Phrase, phrases, plural


class DatasetReader(Protocol):
    """A module that reads one data set. A settings dataclass names it: `reader: ClassVar[str] = "package.module"`.

    If `read_split` looks for images on disk, the module should also define `read_references` with the same arguments,
    which does not: scoring captions from a file needs no image, and the paths that it returns are not used.
    """

    def available_splits(self, config: Any) -> list[str]:
        """The splits that the data set has, of train, val and test. Should not read images."""
        ...

    def read_split(self, config: Any, split: str) -> CaptionDataset:
        """One split as the files define it. Images may be missing and captions blank. DataError for wrong files."""
        ...


class AdvisingReader(DatasetReader, Protocol):
    """A reader that says what to do where a split is missing."""

    def split_advice(self, config: Any, split: str) -> str:
        """The end of a message, without a full stop: "put val.tsv into data.root"."""
        ...


class BoxReader(DatasetReader, Protocol):
    """A reader that knows bounding boxes, which `metric.grounding` needs.

    A module may also define LABEL_NAMES (see `CaptionDataset.label_names`), OBJECT_NAMES (for CHAIR: see
    `ImageObjects.names`; without it, those of LABEL_NAMES) and BOXES_EXPECTED, a hint for the error
    message of a split without boxes. Without `load_boxes`, `read_split` must return the boxes.
    """

    def has_boxes(self, config: Any, split: str) -> bool:
        """Whether the boxes of a split are on disk. Should not read them."""
        ...

    def load_boxes(self, config: Any, split: str) -> dict[ImageId, tuple[Box, ...]]:
        """Image id → boxes. Separate from `read_split` because files of boxes are large and rarely needed."""
        ...


def available_splits(config: DataConfig) -> list[str]:
    """The splits that `load_dataset` can load, of train, val and test. Reads no images."""
    reader = _reader(config)
    _check_root(config)
    return reader.available_splits(config)


@collection_paused()
def load_dataset(config: DataConfig, split: str, *, need_captions: bool = True) -> CaptionDataset:
    """One split, ready to use: every image exists, no caption is blank, at most `config.limit` images.

    split: train, val (also dev, validation) or test. need_captions: without it, all images may be without captions, as
    those of test servers are. Raises DataError if the data set or the split does not exist, cannot be read, or is
    empty. Missing images are a DataError with `on_bad_image="error"`; with "skip" they are left out and counted in
    `notices`.
    """
    return usable_images(read_split(config, split), config, need_captions=need_captions)


def usable_images(dataset: CaptionDataset, config: DataConfig, *, need_captions: bool = True) -> CaptionDataset:
    """What `load_dataset` returns for this split, as `read_split` has read it; the errors are the same."""
    if config.on_bad_image == "error":  # images beyond the limit are not used, so they may be missing
        dataset = replace(dataset, images=dataset.images[: config.limit])
    if config.features is None:  # otherwise no image is read
        dataset = _without_missing_images(dataset, config)
    dataset = _without_blank_captions(dataset)
    dataset = replace(dataset, images=dataset.images[: config.limit])
    where = f"The split {dataset.split} of {dataset.name} at {config.root}"
    return _with_captions(dataset, where, need_captions=need_captions)


def load_references(config: DataConfig, split: str) -> CaptionDataset:
    """The reference captions of one split; like `load_dataset`, but no image is looked for, so all may be missing."""
    dataset = read_split(config, split, find_images=False)
    dataset = replace(dataset, images=dataset.images[: config.limit])
    return checked_references(dataset, f"The split {dataset.split} of {dataset.name} at {config.root}")


def checked_references(dataset: CaptionDataset, where: str) -> CaptionDataset:
    """`dataset` without blank captions; DataError, which begins with `where`, if it has no images or no captions."""
    return _with_captions(_without_blank_captions(dataset), where)


def _with_captions(dataset: CaptionDataset, where: str, *, need_captions: bool = True) -> CaptionDataset:
    """DataError if there are no images or, if they are needed, no captions; a notice if some images have none."""
    if not dataset.images:
        raise DataError(f"{where} is empty.")
    without = sum(not image.captions for image in dataset.images)
    if without == len(dataset):
        if not need_captions:
            return dataset
        raise DataError(f"{where} has images but no captions.")
    if without:
        dataset = _with_notice(dataset, f"{without:,} of {len(dataset):,} images of {dataset.split} have no caption.")
    return dataset


def split_advice(config: DataConfig, split: str) -> str:
    """What to do to get this split, which the data set does not have: the end of a message, without a full stop."""
    reader = _reader(config)
    if hasattr(reader, "split_advice"):
        return cast("AdvisingReader", reader).split_advice(config, split)
    return f"its reader, {type(config).reader}, finds none"


def check_has_boxes(config: DataConfig, split: str) -> None:
    """DataError if `add_boxes` would fail for this split. Does not read the boxes."""
    reader = _box_reader(config)
    if reader is None:
        raise DataError(
            f"metric.grounding needs bounding boxes of objects, which data={config.name} does not have. "
            f"Data sets with boxes: {', '.join(_datasets_with_boxes())}. Set metric.grounding=null."
        )
    if not reader.has_boxes(config, split):
        expected = getattr(reader, "BOXES_EXPECTED", "")
        raise DataError(
            f"metric.grounding needs the bounding boxes of {split}'s objects, and {config.root} has none"
            f"{f': {expected}' if expected else ''}. Otherwise set metric.grounding=null."
        )


def add_objects(config: DataConfig, dataset: CaptionDataset) -> CaptionDataset:
    """`dataset` with the objects in its images, for CHAIR; unchanged where there are no annotations of them.

    A phrase names the label that the reader's OBJECT_NAMES or LABEL_NAMES give; another label is named by itself and
    its plural.
    """
    reader = _box_reader(config)
    if reader is None or not reader.has_boxes(config, dataset.split):
        return dataset
    with_boxes = add_boxes(config, dataset)
    labels: dict[Hashable, frozenset[str]] = {
        image.image_id: frozenset(box.label for box in image.boxes) for image in with_boxes
    }
    names: dict[Phrase, str | None] = getattr(reader, "OBJECT_NAMES", None) or phrases(with_boxes.label_names)
    named = set(names.values())
    others = {label for of_image in labels.values() for label in of_image} - named
    names = phrases({label: (label, plural(label)) for label in sorted(others)}) | names
    return replace(dataset, objects=ImageObjects(labels, names, f"the object annotations of {dataset.name}"))


def add_boxes(config: DataConfig, dataset: CaptionDataset) -> CaptionDataset:
    """`dataset` with the bounding boxes of the objects in its images; DataError if there are none."""
    check_has_boxes(config, dataset.split)
    reader = _box_reader(config)
    if reader is None or not hasattr(reader, "load_boxes"):
        return dataset  # `read_split` has returned the boxes
    boxes = reader.load_boxes(config, dataset.split)
    images = tuple(replace(image, boxes=boxes.get(image.image_id, ())) for image in dataset)
    return replace(dataset, images=images, label_names=getattr(reader, "LABEL_NAMES", {}))


def read_split(config: DataConfig, split: str, *, find_images: bool = True) -> CaptionDataset:
    """One split as its files define it, with unique image ids. Images may be missing and captions blank.

    find_images: without it no image is looked for, and the images' paths may be wrong.
    """
    reader = _reader(config)
    splits = available_splits(config)
    where = f" at {config.root}" if config.root else ""
    if not splits:
        raise DataError(f"{config.name}{where} has no split: its files list no images.")
    name = split_name(split)
    if name is None or name not in splits:
        raise DataError(
            f"There is no split {split!r} in {config.name}{where}.{near_misses(split, splits)} "
            f"Available: {', '.join(splits)}."
        )
    read = reader.read_split if find_images else getattr(reader, "read_references", reader.read_split)
    dataset: CaptionDataset = read(config, name)
    _check_unique_ids(dataset)
    return dataset


def _check_root(config: DataConfig) -> None:
    """DataError if a data set of another package needs `data.root` and has none. Built-in readers say what it holds."""
    if config.needs_root and config.name in DATASETS.additions():
        data_root(config, f"the data set {config.name}")


def _check_unique_ids(dataset: CaptionDataset) -> None:
    hashes = np.fromiter((hash(image.image_id) for image in dataset.images), np.int64, len(dataset))
    if len(np.unique(hashes)) == len(hashes):  # the usual case, which takes eight bytes per image
        return
    counts = Counter(image.image_id for image in dataset.images)
    repeated = [image.image_id for image in dataset.images if counts[image.image_id] > 1]
    if repeated:
        names = dict.fromkeys(image.path.name for image in dataset.images if image.image_id == repeated[0])
        raise DataError(
            f"The split {dataset.split} of {dataset.name} has {len(set(repeated)):,} image ids that belong to several "
            f"images, such as {repeated[0]!r} ({join_names(names)}). Image ids must be unique."
        )


def _reader(config: DataConfig) -> DatasetReader:
    """The module that reads this data set; ConfigError if it cannot be imported or is no reader."""
    expected = DATASETS[config.name]
    if not isinstance(config, expected):
        raise ConfigError(
            f"data.name={config.name} needs the settings {expected.__name__}, but got a {type(config).__name__}. "
            f"On the command line, choose the data set with data={config.name}."
        )
    where = f"{expected.__name__}.reader = {expected.reader!r} of data.name={config.name}"
    if not expected.reader:
        raise ConfigError(f'{where} names no module. Set it to the module that reads the data: "package.module".')
    try:
        module = load_object(expected.reader)
    except ImportError as error:
        raise ConfigError(f"{where} cannot be imported: {error}.") from error
    missing = [name for name in ("available_splits", "read_split") if not callable(getattr(module, name, None))]
    if missing:
        raise ConfigError(
            f"{where} has no {' and no '.join(missing)}. Expected functions (config) and (config, split)."
        )
    return cast("DatasetReader", module)


def _box_reader(config: DataConfig) -> BoxReader | None:
    reader = _reader(config)
    return cast("BoxReader", reader) if hasattr(reader, "has_boxes") else None


def _datasets_with_boxes() -> list[str]:
    """The data sets whose readers know bounding boxes, in the registry's order."""
    return [name for name, settings in DATASETS.loadable().items() if _box_reader(settings()) is not None]


def _without_missing_images(dataset: CaptionDataset, config: DataConfig) -> CaptionDataset:
    missing = missing_images(dataset)
    if not missing:
        return dataset
    problem = (
        f"{len(missing):,} of the {len(dataset):,} images of {dataset.name} {dataset.split} are not on disk "
        f"({join_names(missing_files([image.path for image in missing], config.root))})."
    )
    if config.on_bad_image == "error":
        raise DataError(f"{problem} Check data.root, or set data.on_bad_image=skip to leave them out.")
    missing_ids = {image.image_id for image in missing}
    present = tuple(image for image in dataset.images if image.image_id not in missing_ids)
    if not present:
        raise DataError(f"The split {dataset.split} of {dataset.name} at {config.root} is empty: {problem}")
    return _with_notice(replace(dataset, images=present), f"{problem} They are left out.")


def missing_images(dataset: CaptionDataset) -> list[CaptionedImage]:
    """The images whose file does not exist. Lists each folder once, because one `stat` call per image is slow."""
    names: dict[str, set[str]] = {}

    def is_missing(path: ImagePath) -> bool:
        if isinstance(path, ImageViews):
            return any(map(is_missing, path.views))
        if not isinstance(path, Path):
            return False  # images in archives and tables were found when these were read
        folder, name = folder_and_name(path)
        if folder not in names:
            names[folder] = _names_in(folder)
        # On a file system that ignores case, the listing may spell the name differently.
        return name not in names[folder] and not path_exists(path)

    return [image for image in dataset.images if is_missing(image.path)]


def _names_in(folder: str) -> set[str]:
    try:
        return set(os.listdir(folder or "."))  # noqa: PTH208 - names, not paths
    except (OSError, ValueError):
        return set()


def _without_blank_captions(dataset: CaptionDataset) -> CaptionDataset:
    if all(all(map(str.strip, image.captions)) for image in dataset.images):  # the usual case, checked fast
        return dataset
    blank = sum(not caption.strip() for image in dataset.images for caption in image.captions)
    images = tuple(
        replace(image, captions=tuple(caption for caption in image.captions if caption.strip()))
        for image in dataset.images
    )
    return _with_notice(replace(dataset, images=images), f"{blank:,} blank captions of {dataset.split} are left out.")


def _with_notice(dataset: CaptionDataset, notice: str) -> CaptionDataset:
    return replace(dataset, notices=(*dataset.notices, notice))
