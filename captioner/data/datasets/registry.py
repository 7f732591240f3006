"""From settings to a data set: the one way in, whatever the source.

A reader says which splits there are and reads one as the files have it. What holds for every source
is done here: names of splits, unique ids, images that are not on disk, blank captions, `limit`.
docs/extending.md shows how to add a source: a config dataclass and a module with the two functions.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from captioner.config import DATASETS, CocoConfig, DataConfig
from captioner.data.dataset import CaptionDataset, CaptionedImage, ImagePath
from captioner.data.datasets import coco
from captioner.data.datasets.annotation_files import join_names, path_exists
from captioner.data.datasets.splits import split_name
from captioner.errors import ConfigError, DataError, near_misses
from captioner.registry import load_object


def available_splits(config: DataConfig) -> list[str]:
    """The names that `load_dataset` takes, of train, val and test. Images are not looked at."""
    splits: list[str] = _reader(config).available_splits(config)
    return splits


def load_dataset(config: DataConfig, split: str) -> CaptionDataset:
    """One split, ready to use: every image is on disk, no caption is blank, at most `config.limit` images.

    split: train, val (also dev, validation) or test. Raises DataError where the data set or the split
    is not there, cannot be read, or is empty, and, with `on_bad_image="error"`, where images are
    missing; with "skip" those are left out and counted in `notices`.
    """
    dataset = read_split(config, split)
    if config.on_bad_image == "error":  # nobody asked for the images beyond the limit: they may be missing
        dataset = replace(dataset, images=dataset.images[: config.limit])
    dataset = _without_missing_images(dataset, config)
    dataset = _without_blank_captions(dataset)
    dataset = replace(dataset, images=dataset.images[: config.limit])
    if not dataset.images:
        raise DataError(f"The split {dataset.split} of {dataset.name} at {config.root} is empty.")
    silent = sum(not image.captions for image in dataset.images)
    if silent == len(dataset):
        raise DataError(f"The split {dataset.split} of {dataset.name} at {config.root} has images but no captions.")
    if silent:
        dataset = _with_notice(dataset, f"{silent:,} of {len(dataset):,} images of {dataset.split} have no caption.")
    return dataset


def check_has_boxes(config: DataConfig, split: str) -> None:
    """DataError where it is known without reading much that `add_boxes` would fail."""
    if config.name == "scenes":
        return
    if not isinstance(config, CocoConfig):
        raise DataError(
            f"The objects' boxes of data={config.name} are not known, and metric.grounding needs them: "
            "it is for data=scenes and data=coco. Set metric.grounding=null."
        )
    if not coco.has_boxes(config, split):
        raise DataError(
            f"metric.grounding needs the boxes of {split}'s objects, and {config.root} has none: put COCO's "
            "instances_*.json beside the captions in annotations/ (`data download coco --parts annotations` gets them)."
        )


def add_boxes(config: DataConfig, dataset: CaptionDataset) -> CaptionDataset:
    """The same with the boxes of the objects in its images; DataError where they are not known."""
    check_has_boxes(config, dataset.split)
    if not isinstance(config, CocoConfig):
        return dataset  # drawn scenes come with theirs
    boxes = coco.load_boxes(config, dataset.split)
    images = tuple(replace(image, boxes=boxes.get(image.image_id, ())) for image in dataset)
    return replace(dataset, images=images)


def read_split(config: DataConfig, split: str) -> CaptionDataset:
    """One split as its files have it, ids checked to be unique; images may be missing and captions blank."""
    reader = _reader(config)
    there = reader.available_splits(config)
    place = f" at {config.root}" if config.root else ""
    if not there:
        raise DataError(f"{config.name}{place} has no split at all: its files list no images.")
    name = split_name(split)
    if name not in there:
        raise DataError(
            f"There is no split {split!r} in {config.name}{place}.{near_misses(split, there)} "
            f"There are: {', '.join(there)}."
        )
    dataset: CaptionDataset = reader.read_split(config, name)
    _check_unique_ids(dataset)
    return dataset


def _check_unique_ids(dataset: CaptionDataset) -> None:
    hashes = np.fromiter((hash(image.image_id) for image in dataset.images), np.int64, len(dataset))
    if len(np.unique(hashes)) == len(hashes):  # the usual case, in eight bytes an image
        return
    counts = Counter(image.image_id for image in dataset.images)
    twice = [image.image_id for image in dataset.images if counts[image.image_id] > 1]
    if twice:
        names = dict.fromkeys(image.path.name for image in dataset.images if image.image_id in set(twice[:1]))
        raise DataError(
            f"The split {dataset.split} of {dataset.name} has {len(set(twice)):,} image ids that stand for more than "
            f"one image, such as {twice[0]!r} ({join_names(names)}). Image ids must be unique."
        )


def _reader(config: DataConfig) -> Any:
    """The module that reads this data set."""
    expected = DATASETS[config.name]
    if not isinstance(config, expected):
        raise ConfigError(
            f"data.name={config.name} needs the settings of {config.name} ({expected.__name__}), "
            f"but these are a {type(config).__name__}. On the command line choose the source with data={config.name}."
        )
    return load_object(type(config).reader)


def _without_missing_images(dataset: CaptionDataset, config: DataConfig) -> CaptionDataset:
    missing = missing_images(dataset)
    if not missing:
        return dataset
    sentence = (
        f"{len(missing):,} of the {len(dataset):,} images of {dataset.name} {dataset.split} are not on disk "
        f"({join_names(image.path for image in missing)})."
    )
    if config.on_bad_image == "error":
        raise DataError(f"{sentence} Check data.root, or set data.on_bad_image=skip to leave them out.")
    gone = {image.image_id for image in missing}
    kept = tuple(image for image in dataset.images if image.image_id not in gone)
    return _with_notice(replace(dataset, images=kept), f"{sentence} They are left out.")


def missing_images(dataset: CaptionDataset) -> list[CaptionedImage]:
    """The images whose file does not exist. Each folder is listed once: a hundred thousand `stat` calls take long."""
    names: dict[Path, set[str]] = {}

    def is_missing(path: ImagePath) -> bool:
        if not isinstance(path, Path):
            return False  # it was seen in its archive
        if path.parent not in names:
            names[path.parent] = _names_in(path.parent)
        # a file system that ignores case holds names that its listing spells differently: so ask again
        return path.name not in names[path.parent] and not path_exists(path)

    return [image for image in dataset.images if is_missing(image.path)]


def _names_in(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))  # noqa: PTH208 - names, not paths
    except (OSError, ValueError):
        return set()


def _without_blank_captions(dataset: CaptionDataset) -> CaptionDataset:
    blank = sum(not caption.strip() for image in dataset.images for caption in image.captions)
    if not blank:
        return dataset
    images = tuple(
        replace(image, captions=tuple(caption for caption in image.captions if caption.strip()))
        for image in dataset.images
    )
    return _with_notice(replace(dataset, images=images), f"{blank:,} blank captions of {dataset.split} are left out.")


def _with_notice(dataset: CaptionDataset, notice: str) -> CaptionDataset:
    return replace(dataset, notices=(*dataset.notices, notice))
