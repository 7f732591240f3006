"""From settings to a data set: the one way in, whatever the source.

A reader says which splits there are and reads one as the files have it. What holds for every source
is done here: names of splits, unique ids, pictures that are not on disk, blank captions, `limit`.
To add a source: a config dataclass, a module with the two functions, a line in `READERS`.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from captioner.config import (
    CocoConfig,
    DataConfig,
    Flickr8kConfig,
    Flickr30kConfig,
    FolderConfig,
    ScenesConfig,
    ShardsConfig,
)
from captioner.data import coco, flickr8k, flickr30k, folder
from captioner.data.dataset import CaptionDataset, CaptionedImage, PicturePath
from captioner.data.reading import is_there, listed
from captioner.data.splits import SPLITS, split_name
from captioner.data.tar_shards import source as tar_shards
from captioner.errors import ConfigError, DataError, choose, near_misses
from captioner.schema import from_plain


class Reader(NamedTuple):
    """One source: its settings, the splits it has, and one of them as the files have it."""

    config: type[DataConfig]
    splits: Callable[[Any], list[str]]
    read: Callable[[Any, str], CaptionDataset]


def _read_scenes(config: ScenesConfig, split: str) -> CaptionDataset:
    from captioner.data.scenes import load_scenes  # draws pictures: only where they are wanted

    return load_scenes(config, split)


READERS = {
    "scenes": Reader(ScenesConfig, lambda config: list(SPLITS), _read_scenes),
    "coco": Reader(CocoConfig, coco.available_splits, coco.read_split),
    "flickr8k": Reader(Flickr8kConfig, flickr8k.available_splits, flickr8k.read_split),
    "flickr30k": Reader(Flickr30kConfig, flickr30k.available_splits, flickr30k.read_split),
    "folder": Reader(FolderConfig, folder.available_splits, folder.read_split),
    "shards": Reader(ShardsConfig, tar_shards.available_splits, tar_shards.read_split),
}


def data_settings(raw: Any) -> DataConfig:
    """A source's settings from plain values; `name` says which dataclass they are."""
    name = raw.get("name") if isinstance(raw, dict) else None
    return from_plain(READERS[choose("data.name", str(name), READERS)].config, raw, "data")


def available_splits(config: DataConfig) -> list[str]:
    """The names that `load_dataset` takes, of train, val and test. Pictures are not looked at."""
    return _reader(config).splits(config)


def load_dataset(config: DataConfig, split: str) -> CaptionDataset:
    """One split, ready to use: every picture is on disk, no caption is blank, at most `config.limit` pictures.

    split: train, val (also dev, validation) or test. Raises DataError where the data set or the split
    is not there, cannot be read, or is empty, and, with `on_bad_image="error"`, where pictures are
    missing; with "skip" those are left out and counted in `notices`.
    """
    dataset = read_split(config, split)
    if config.on_bad_image == "error":  # nobody asked for the pictures beyond the limit: they may be missing
        dataset = replace(dataset, images=dataset.images[: config.limit])
    dataset = _without_missing_pictures(dataset, config)
    dataset = _without_blank_captions(dataset)
    dataset = replace(dataset, images=dataset.images[: config.limit])
    if not dataset.images:
        raise DataError(f"The split {dataset.split} of {dataset.name} at {config.root} is empty.")
    silent = sum(not image.captions for image in dataset.images)
    if silent == len(dataset):
        raise DataError(f"The split {dataset.split} of {dataset.name} at {config.root} has pictures but no captions.")
    if silent:
        dataset = _noticing(dataset, f"{silent:,} of {len(dataset):,} pictures of {dataset.split} have no caption.")
    return dataset


def refuse_without_boxes(config: DataConfig, split: str) -> None:
    """DataError where it is known without reading much that `with_boxes` would fail."""
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


def with_boxes(config: DataConfig, dataset: CaptionDataset) -> CaptionDataset:
    """The same with the boxes of the objects in its pictures; DataError where they are not known."""
    refuse_without_boxes(config, dataset.split)
    if not isinstance(config, CocoConfig):
        return dataset  # drawn scenes come with theirs
    boxes = coco.load_boxes(config, dataset.split)
    images = tuple(replace(image, boxes=boxes.get(image.image_id, ())) for image in dataset)
    return replace(dataset, images=images)


def read_split(config: DataConfig, split: str) -> CaptionDataset:
    """One split as its files have it, ids checked to be unique; pictures may be missing and captions blank."""
    reader = _reader(config)
    there = reader.splits(config)
    place = f" at {config.root}" if config.root else ""
    if not there:
        raise DataError(f"{config.name}{place} has no split at all: its files list no pictures.")
    name = split_name(split)
    if name not in there:
        raise DataError(
            f"There is no split {split!r} in {config.name}{place}.{near_misses(split, there)} "
            f"There are: {', '.join(there)}."
        )
    dataset = reader.read(config, name)
    _refuse_repeated_ids(dataset)
    return dataset


def _refuse_repeated_ids(dataset: CaptionDataset) -> None:
    hashes = np.fromiter((hash(image.image_id) for image in dataset.images), np.int64, len(dataset))
    if len(np.unique(hashes)) == len(hashes):  # the usual case, in eight bytes a picture
        return
    counts = Counter(image.image_id for image in dataset.images)
    twice = [image.image_id for image in dataset.images if counts[image.image_id] > 1]
    if twice:
        names = dict.fromkeys(image.path.name for image in dataset.images if image.image_id in set(twice[:1]))
        raise DataError(
            f"The split {dataset.split} of {dataset.name} has {len(set(twice)):,} image ids that stand for more than "
            f"one picture, such as {twice[0]!r} ({listed(names)}). Image ids must be unique."
        )


def _reader(config: DataConfig) -> Reader:
    reader = READERS[config.name]
    if not isinstance(config, reader.config):
        raise ConfigError(
            f"data.name={config.name} needs the settings of {config.name} ({reader.config.__name__}), "
            f"but these are a {type(config).__name__}. On the command line choose the source with data={config.name}."
        )
    return reader


def _without_missing_pictures(dataset: CaptionDataset, config: DataConfig) -> CaptionDataset:
    missing = missing_pictures(dataset)
    if not missing:
        return dataset
    sentence = (
        f"{len(missing):,} of the {len(dataset):,} pictures of {dataset.name} {dataset.split} are not on disk "
        f"({listed(image.path for image in missing)})."
    )
    if config.on_bad_image == "error":
        raise DataError(f"{sentence} Check data.root, or set data.on_bad_image=skip to leave them out.")
    gone = {image.image_id for image in missing}
    kept = tuple(image for image in dataset.images if image.image_id not in gone)
    return _noticing(replace(dataset, images=kept), f"{sentence} They are left out.")


def missing_pictures(dataset: CaptionDataset) -> list[CaptionedImage]:
    """The images whose file does not exist. Each folder is listed once: a hundred thousand `stat` calls take long."""
    names: dict[Path, set[str]] = {}

    def is_missing(path: PicturePath) -> bool:
        if not isinstance(path, Path):
            return False  # it was seen in its archive
        if path.parent not in names:
            names[path.parent] = _names_in(path.parent)
        # a file system that ignores case holds names that its listing spells differently: so ask again
        return path.name not in names[path.parent] and not is_there(path)

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
    return _noticing(replace(dataset, images=images), f"{blank:,} blank captions of {dataset.split} are left out.")


def _noticing(dataset: CaptionDataset, notice: str) -> CaptionDataset:
    return replace(dataset, notices=(*dataset.notices, notice))
