"""The user's own images, in a folder with a CSV, JSON lines or COCO JSON file of captions.

    root/captions.csv     image,caption,split      (split is optional)
    root/captions.jsonl   {"image": "cat.jpg", "captions": ["a cat", "a tabby cat"], "split": "train"}
    root/captions.json    COCO's format, with an optional "split" in every image
    root/cat.jpg, root/pets/dog.jpg, or all of them in root/images/

The id of an image is its path without the suffix ("cat", "pets/dog"), or the id in the COCO JSON file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from captioner.config import FolderConfig
from captioner.data.dataset import CaptionDataset, CaptionedImage, ImageId
from captioner.data.datasets.annotation_files import (
    check_image_name,
    data_root,
    first_existing,
    join_names,
    path_exists,
)
from captioner.data.datasets.caption_tables import Row, read_json_lines, read_table
from captioner.data.datasets.coco import read_captions
from captioner.data.datasets.faults import Faults
from captioner.data.datasets.splits import SPLITS, split_by_hash, split_name
from captioner.errors import DataError

EXPECTED = "your images and captions.csv (or captions.jsonl, captions.json)"
CAPTION_FILES = ("captions.csv", "captions.jsonl", "captions.json", "captions.txt", "captions.tsv")
IMAGE_FOLDERS = ("", "images", "Images")
SUFFIXES = (".csv", ".jsonl", ".json", ".tsv")


def available_splits(config: FolderConfig) -> list[str]:
    """The splits that the captions file names, or those made by a hash of the image ids."""
    splits = set(_read(config, find_images=False)[1].values())
    return [split for split in SPLITS if split in splits]


def read_split(config: FolderConfig, split: str) -> CaptionDataset:
    """One split as the file defines it. Does not check that the images exist."""
    return _split(config, split, find_images=True)


def read_references(config: FolderConfig, split: str) -> CaptionDataset:
    """`read_split` without looking for images."""
    return _split(config, split, find_images=False)


def _split(config: FolderConfig, split: str, *, find_images: bool) -> CaptionDataset:
    images, splits, notices = _read(config, find_images=find_images)
    chosen = tuple(image for image in images if splits[image.image_id] == split)
    return CaptionDataset("folder", split, chosen, notices)


def _read(
    config: FolderConfig, *, find_images: bool
) -> tuple[list[CaptionedImage], dict[ImageId, str], tuple[str, ...]]:
    """(all images, image id → split, notices)."""
    root = data_root(config, EXPECTED)
    path = _captions_file(root, config.captions)
    images, named = read_file(path, root, find_images=find_images)
    without = [image.path.name for image in images if named[image.image_id] is None]
    if images and len(without) == len(images):
        hashed = split_by_hash(named, config.val_fraction)
        fractions = f"{config.val_fraction:.0%} of the images for val and for test"
        return images, hashed, (f"{path} names no splits: images are split by a hash of their ids, {fractions}.",)
    if without:
        raise DataError(
            f"{path} gives a split for some images, but not for {len(without):,} of them ({join_names(without)})."
        )
    return images, {image_id: split for image_id, split in named.items() if split}, ()


def read_file(
    path: Path, root: Path, *, find_images: bool = True
) -> tuple[list[CaptionedImage], dict[ImageId, str | None]]:
    """(all images of a captions file, image id → the split that the file gives, or None).

    root: the folder of the images. find_images: look for the folder inside `root` that holds them; without it nothing
    but the captions file is looked at, and the images' paths may be wrong.
    """
    candidates = IMAGE_FOLDERS if find_images else IMAGE_FOLDERS[:1]
    if path.suffix.lower() == ".json":
        return _read_coco(path, root, candidates)
    return _read_rows(path, root, candidates)


def _captions_file(root: Path, given: str | None) -> Path:
    if given is not None:
        path = first_existing([root / Path(given).expanduser(), Path(given).expanduser()])
        if path is None or path.is_dir():
            raise DataError(f"data.captions={given} is not a file, neither in {root} nor in the current folder.")
        return path
    default = first_existing(root / name for name in CAPTION_FILES)
    if default is not None:
        return default
    others = sorted(path for path in root.iterdir() if path.suffix.lower() in SUFFIXES)
    if len(others) == 1:
        return others[0]
    found = (
        f"several possible captions files ({join_names(path.name for path in others)})"
        if others
        else "no captions file"
    )
    raise DataError(f"{root} has {found}. Set data.captions to a CSV, JSONL or COCO JSON file in it.")


def _read_coco(
    path: Path, root: Path, candidates: Sequence[str]
) -> tuple[list[CaptionedImage], dict[ImageId, str | None]]:
    entries = read_captions(path)
    folder = _image_folder(root, candidates, (entry.file_name for entry in entries))
    images = []
    splits: dict[ImageId, str | None] = {}
    for entry in entries:
        image = folder / check_image_name(entry.file_name, folder, f"{path}")
        images.append(CaptionedImage(entry.image_id, image, entry.captions))
        splits[entry.image_id] = split_name(entry.split) if entry.split is not None else None
        if entry.split is not None and splits[entry.image_id] is None:
            raise DataError(f"{path}: {entry.file_name} has the split {entry.split!r}. Expected {', '.join(SPLITS)}.")
    return images, splits


def _read_rows(
    path: Path, root: Path, candidates: Sequence[str]
) -> tuple[list[CaptionedImage], dict[ImageId, str | None]]:
    """(images in the order of their first rows, image id → split or None)."""
    faults, rows = Faults(), list[Row]()
    with faults.collected():
        for row in read_json_lines(path) if path.suffix.lower() == ".jsonl" else read_table(path):
            rows.append(row)  # one by one, so that those read before a fault are kept
    folder = _image_folder(root, candidates, (row.image for row in rows))
    captions: dict[str, list[str]] = {}
    names: dict[ImageId, str] = {}
    splits: dict[ImageId, str | None] = {}
    for row in rows:
        with faults.collected():
            name = check_image_name(row.image, folder, f"{path}, line {row.line}")
            image_id = PurePosixPath(name).with_suffix("").as_posix()
            _check_row(row, name, names.setdefault(image_id, name), splits.setdefault(image_id, row.split), path)
            captions.setdefault(name, []).append(row.caption)
    faults.check()
    images = [CaptionedImage(image_id, folder / name, tuple(captions[name])) for image_id, name in names.items()]
    return images, splits


def _check_row(row: Row, name: str, first_name: str, first_split: str | None, path: Path) -> None:
    """DataError if the row's image has the id of another one, `first_name`, or another split than in earlier rows."""
    if name != first_name:
        raise DataError(
            f"{path}, line {row.line}: {name} and {first_name} differ only in their suffix, so both have "
            f"the id {PurePosixPath(name).with_suffix('').as_posix()!r}. Rename one of them."
        )
    if row.split != first_split:
        raise DataError(
            f"{path}, line {row.line}: {name} is in {row.split or 'no split'} here and in "
            f"{first_split or 'no split'} in an earlier line. An image belongs to one split."
        )


def _image_folder(root: Path, candidates: Sequence[str], names: Iterable[str]) -> Path:
    """The folder, of the `candidates` in `root`, in which most of the first 20 images exist."""
    folders = [root / candidate for candidate in candidates]
    if len(folders) == 1:
        return folders[0]
    first = [name for name, _ in zip(names, range(20), strict=False)]
    return max(folders, key=lambda folder: sum(path_exists(folder / os.path.normpath(name)) for name in first))
