"""Karpathy's splits (Karpathy & Fei-Fei, CVPR 2015, arXiv:1412.2306), on which captioning papers report scores.

They exist as a JSON file with captions (`dataset_coco.json`, `dataset_flickr30k.json`), and for COCO also as a folder
of lists of file names (`coco_train.txt`, `coco_restval.txt`, …), to be combined with COCO's own annotations. As is
usual in the literature, train on COCO means his train + restval.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

from captioner.data.dataset import ImageId
from captioner.data.datasets.annotation_files import get_field, path_exists, read_json, read_lines
from captioner.data.datasets.splits import SPLITS
from captioner.errors import DataError

PARTS = {"train": ("train", "restval"), "val": ("val",), "test": ("test",)}
"""Our split → Karpathy's."""

COUNTS = {
    "coco": {"train": 113_287, "val": 5_000, "test": 5_000},
    "flickr30k": {"train": 29_000, "val": 1_014, "test": 1_000},
    "flickr8k": {"train": 6_000, "val": 1_000, "test": 1_000},
}
"""Name of the data set in the file → split → number of images."""


class KarpathyImage(NamedTuple):
    """One image of a Karpathy JSON file. `folder` is "" if the file names none."""

    image_id: ImageId
    folder: str
    file_name: str
    captions: tuple[str, ...]


def is_karpathy(document: object) -> TypeGuard[dict[str, Any]]:
    """Whether a parsed JSON file is in Karpathy's format."""
    images = document.get("images") if isinstance(document, dict) else None
    return isinstance(images, list) and any(isinstance(image, dict) and "sentences" in image for image in images[:1])


def find(root: Path, given: str) -> Path:
    """The file or folder that `data.karpathy` names, relative to `root` or to the current folder."""
    candidates = [root / Path(given).expanduser(), Path(given).expanduser()]
    for path in candidates:
        if path_exists(path):
            return path
    raise DataError(
        f"data.karpathy={given} does not exist, neither in {root} nor in the current folder. "
        "Expected dataset_coco.json, or the folder that holds coco_train.txt, coco_restval.txt and so on."
    )


def available_splits(path: Path) -> list[str]:
    """The splits of a Karpathy JSON file, or of a folder of lists."""
    if not path.is_dir():
        return list(SPLITS)
    return [split for split in SPLITS if path_exists(_list_files(path, split)[0])]


def read_split(path: Path, split: str, dataset: str) -> tuple[list[KarpathyImage], list[str]]:
    """(the images of one split of a JSON file, in its order; notices).

    dataset: "coco" or "flickr30k", for the counts that a complete file must have; of others nothing is known.
    DataError if the file is not in Karpathy's format, or has all images but other splits.
    """
    found = read_images(read_json(path, _without_tokens), path)
    counts = Counter(part for _, part in found)
    chosen = [image for image, part in found if part == split]
    return chosen, check_counts(dict(counts), split, dataset, path)


def read_images(data: object, path: Path) -> list[tuple[KarpathyImage, str]]:
    """All images of a JSON file with their split (train, val or test), in its order. `path` is for messages."""
    where = f"{path}: images"
    found = []
    split_of = {part: split for split, parts in PARTS.items() for part in parts}
    for number, image in enumerate(get_field(data, "images", list, f"{path}")):
        part = get_field(image, "split", str, where, number)
        if part not in split_of:
            raise DataError(
                f"{where}[{number}]: the split is {part!r}. Expected one of: {', '.join(sorted(split_of))}."
            )
        found.append((_read_image(image, where, number), split_of[part]))
    return found


def _without_tokens(record: dict[str, Any]) -> dict[str, Any]:
    """A sentence without its tokens, which are not read and take most of the memory of COCO's file."""
    return {"raw": record["raw"]} if "raw" in record else record


def published_counts(data: object, found: list[tuple[KarpathyImage, str]], path: Path) -> tuple[str, ...]:
    """The notices of `check_counts`, if the file's own field `dataset` is that of published splits; else none."""
    name = data.get("dataset") if type(data) is dict else None
    if name not in COUNTS:
        return ()
    counts = dict(Counter(part for _, part in found))
    notices = [notice for split in SPLITS for notice in check_counts(counts, split, str(name), path)]
    return tuple(dict.fromkeys(notices))


def read_list(folder: Path, split: str) -> tuple[list[int], list[str]]:
    """(the COCO ids of one split of a folder of lists, notices)."""
    ids = _read_ids(folder, split)
    counts = {name: len(_read_ids(folder, name)) for name in SPLITS if all(map(path_exists, _list_files(folder, name)))}
    return ids, check_counts(counts, split, "coco", folder)


def check_counts(counts: dict[str, int], split: str, dataset: str, path: Path) -> list[str]:
    """[] if the counts are the published ones, else a notice.

    DataError if only the total is the published one: the file is complete, but has other splits.
    """
    expected = COUNTS.get(dataset)
    if expected is None:
        return []
    if counts == expected:
        return []
    found = ", ".join(f"{name} {counts.get(name, 0):,}" for name in expected)
    published = ", ".join(f"{name} {count:,}" for name, count in expected.items())
    if sum(counts.values()) == sum(expected.values()):
        raise DataError(f"{path} has all images, but not Karpathy's split: {found}. Expected {published}.")
    if counts.get(split, 0) == expected[split]:
        return []
    return [
        f"{path} has {found} images, Karpathy's splits have {published}: scores are not comparable with published ones."
    ]


def _read_image(image: object, where: str, number: int) -> KarpathyImage:
    name = get_field(image, "filename", str, where, number)
    sentences = get_field(image, "sentences", list, where, number)
    captions = tuple(
        get_field(sentence, "raw", str, f"{where}[{number}]: sentences", i) for i, sentence in enumerate(sentences)
    )
    assert isinstance(image, dict)  # checked by `get_field`
    folder = get_field(image, "filepath", str, where, number) if "filepath" in image else ""
    image_id = get_field(image, "cocoid", int, where, number) if "cocoid" in image else Path(name).stem
    return KarpathyImage(image_id, folder, name, captions)


def _list_files(folder: Path, split: str) -> list[Path]:
    return [folder / f"coco_{part}.txt" for part in PARTS[split]]


def _read_ids(folder: Path, split: str) -> list[int]:
    """The ids in the file names (such as `COCO_val2014_000000391895.jpg`) of all lists that make up a split."""
    ids = []
    for path in _list_files(folder, split):
        if not path_exists(path):
            raise DataError(f"{path} is missing: {split} consists of coco_{' and coco_'.join(PARTS[split])}.")
        for number, name in enumerate(read_lines(path), start=1):
            digits = re.fullmatch(r".*?([0-9]{1,12})\.\w+", name)
            if digits is None:
                raise DataError(
                    f"{path}, entry {number}: {name!r} is no COCO file name (COCO_val2014_000000391895.jpg)."
                )
            ids.append(int(digits.group(1)))
    return ids
