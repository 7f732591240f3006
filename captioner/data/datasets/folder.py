"""The user's own images, in a folder with captions in any layout of `layouts`.

    root/captions.csv     image,caption,split      (split is optional)
    root/captions.jsonl   {"image": "cat.jpg", "captions": ["a cat", "a tabby cat"], "split": "train"}
    root/captions.json    COCO's format, Karpathy's, a list of objects, …
    root/cat.jpg, root/pets/dog.jpg, or all of them in root/images/, in root/train/ and root/val/, or in one subfolder

`caption_sources` chooses the files of captions, `layouts` reads them, and `image_files` finds the images. The id of an
image is its name without the suffix ("cat", "pets/dog"), or the id that the file gives it, as COCO's layout does.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from captioner.config import FolderConfig
from captioner.data.dataset import CaptionDataset, CaptionedImage, ImageId, ImagePath
from captioner.data.datasets.annotation_files import check_image_name, data_root, join_names
from captioner.data.datasets.caption_sources import Source, find_sources, split_folders
from captioner.data.datasets.faults import Faults
from captioner.data.datasets.image_files import ImageFinder, has_image_suffix
from captioner.data.datasets.layouts.caption_layout import Content, Entry, ReadOptions
from captioner.data.datasets.layouts.registry import read_captions_file
from captioner.data.datasets.splits import SPLITS, split_by_hash
from captioner.data.image_views import ImageViews
from captioner.data.stored_image import StoredImage
from captioner.errors import DataError

EXPECTED = "your images and captions.csv (or captions.jsonl, captions.json)"
IMAGE_FOLDERS = ("images", "Images")


def available_splits(config: FolderConfig) -> list[str]:
    """The splits that the captions files name, or those made by a hash of the image ids."""
    root = data_root(config, EXPECTED)
    sources = find_sources(root, config)
    named = {source.split for source in sources}
    splits = set(_read(root, sources, config, find_images=False).splits.values()) if None in named else named
    return [split for split in SPLITS if split in splits]


def split_advice(config: FolderConfig, split: str) -> str:
    """What to do where this split is missing."""
    if split == "train":
        return "write images and captions into the captions file, and if it has a column 'split', train into that"
    hashed = "" if config.val_fraction else ", or set data.val_fraction above 0 for a file that names no splits"
    return f"name one in the captions file, in the column 'split'{hashed}"


def read_split(config: FolderConfig, split: str) -> CaptionDataset:
    """One split as the files define it. Does not check that the images exist."""
    return _split(config, split, find_images=True)


def read_references(config: FolderConfig, split: str) -> CaptionDataset:
    """`read_split` without looking for images."""
    return _split(config, split, find_images=False)


def _split(config: FolderConfig, split: str, *, find_images: bool) -> CaptionDataset:
    root = data_root(config, EXPECTED)
    sources = [source for source in find_sources(root, config) if source.split in (None, split)]
    read = _read(root, sources, config, find_images=find_images)
    images = tuple(image for image in read.images() if read.splits[image.image_id] == split)
    return CaptionDataset("folder", split, images, tuple(dict.fromkeys(read.notices)))


def read_file(
    path: Path, root: Path, *, find_images: bool = True
) -> tuple[list[CaptionedImage], dict[ImageId, str | None], list[str]]:
    """(all images of a captions file, image id → the split that the file gives or None, notices).

    root: the folder of the images. find_images: look for the folder inside `root` that holds them; without it nothing
    but the captions file is looked at, and the images' paths may be wrong.
    """
    read = _Images(find_images)
    _add(read, read_captions_file(path), root, Source(path))
    return read.images(), read.splits, read.notices


@dataclass
class _Images:
    """The images of one or more files of captions, by their id, in the order of their first entries."""

    find_images: bool = True
    paths: dict[ImageId, tuple[ImagePath, ...]] = field(default_factory=dict)
    captions: defaultdict[ImageId, list[str]] = field(default_factory=lambda: defaultdict(list))
    splits: dict[ImageId, str | None] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    unread_splits: list[str] = field(default_factory=list)

    def images(self) -> list[CaptionedImage]:
        """The images with their captions."""
        return [
            CaptionedImage(image_id, views_as_path(paths), tuple(self.captions[image_id]))
            for image_id, paths in self.paths.items()
        ]


def views_as_path(paths: tuple[ImagePath, ...]) -> ImagePath:
    """The image itself, or several images as the views of one sample."""
    return paths[0] if len(paths) == 1 else ImageViews.of(*paths)


def _read(root: Path, sources: Sequence[Source], config: FolderConfig, *, find_images: bool) -> _Images:
    """The images of all `sources`, each in a split."""
    options = ReadOptions(
        config.image_column, config.caption_column, config.split_column, config.keep_rejected, config.keep_precanned
    )
    read = _Images(find_images)
    for source in sources:
        _add(read, _in_its_split(read_captions_file(source.path, options), source), root, source)
    path = sources[0].path
    without = [paths[0].name for image_id, paths in read.paths.items() if read.splits[image_id] is None]
    if without and len(without) == len(read.paths):
        if read.unread_splits:
            name = read.unread_splits[0]
            raise DataError(
                f"{path} has no column 'split', but {name!r} holds nothing but names of splits. Set "
                f"data.split_column={name} to use them; without that column images are split by a hash."
            )
        read.splits = dict(split_by_hash(read.splits, config.val_fraction))
        fractions = f"{config.val_fraction:.0%} of the images for val and for test"
        read.notices.append(f"{path} names no splits: images are split by a hash of their ids, {fractions}.")
    elif without:
        raise DataError(
            f"{path} gives a split for some images, but not for {len(without):,} of them ({join_names(without)})."
        )
    return read


def _in_its_split(content: Content, source: Source) -> Content:
    """The content of a file of one split: all its entries are in this split, and may not say otherwise."""
    if source.split is None:
        return content
    others = sorted({entry.split for entry in content.entries if entry.split not in (None, source.split)} - {None})
    if others:
        raise DataError(
            f"{source.path} is used for {source.split}, but it names the splits of its images itself, also "
            f"{' and '.join(map(str, others))}. Set data.captions to this file instead of data.{source.split}."
        )
    return content._replace(entries=[replace(entry, split=source.split) for entry in content.entries])


def _add(read: _Images, content: Content, root: Path, source: Source) -> None:
    """Add the images of one file: entries of the same image become one, and images are looked for on disk.

    DataError with all faults of the file.
    """
    faults = Faults()
    faults.found += content.faults
    located = _NamedImages(root, source.path, content.entries, read.find_images)
    for entry in content.entries:
        where = f"{source.path}, {entry.place}"
        with faults.collected():
            images = [located.locate(image, entry.split, where) for image in entry.images]
            image_id = images[0].image_id if entry.image_id is None else entry.image_id
            paths = tuple(image.path for image in images)
            first = read.paths.setdefault(image_id, paths)
            _check_entry(entry, image_id, paths, first, read.splits.setdefault(image_id, entry.split), where)
            read.captions[image_id] += entry.captions
    faults.check()
    read.unread_splits += content.unread_splits
    read.notices += [*content.notices, *located.notices()]


def _check_entry(
    entry: Entry,
    image_id: ImageId,
    paths: tuple[ImagePath, ...],
    first: tuple[ImagePath, ...],
    first_split: str | None,
    where: str,
) -> None:
    """DataError if the entry's image has the id of another one, `first`, or another split than in earlier entries."""
    name, first_name = paths[0].name, first[0].name
    if name != first_name or (paths != first and entry.split == first_split):
        raise DataError(
            f"{where}: {name} and {first_name} differ only in their suffix, so both have the id {image_id!r}. "
            "Rename one of them."
        )
    if entry.split != first_split:
        raise DataError(
            f"{where}: {name} is in {entry.split or 'no split'} here and in {first_split or 'no split'} in an earlier "
            f"{'line' if entry.place.startswith('line') else 'entry'}. An image belongs to one split."
        )


def _without_suffix(name: str) -> str:
    """The id of an image: its name without the suffix of images, or another one of three or four letters."""
    path = PurePosixPath(name)
    is_suffix = has_image_suffix(name) or re.fullmatch(r"\.[A-Za-z]{3,4}", path.suffix) is not None
    return path.with_suffix("").as_posix() if is_suffix else name


@dataclass(frozen=True)
class _Located:
    path: ImagePath
    image_id: ImageId


class _NamedImages:
    """Finds the images that the entries of a file name, in the folder where most images of their split are."""

    def __init__(self, root: Path, source: Path, entries: Sequence[Entry], find_images: bool) -> None:
        self.root, self.source, self.find_images = root, source, find_images
        self.finder = ImageFinder()
        self.located: dict[tuple[str | None, str], _Located] = {}
        self.bridged: dict[str, dict[str, str]] = {"suffix": {}, "Unicode": {}}
        names: defaultdict[str | None, list[str]] = defaultdict(list)
        for entry in entries:
            names[entry.split] += [image for image in entry.images if isinstance(image, str)]
        self.folders = {split: self._folder(named, split) for split, named in names.items()}

    def _folder(self, names: list[str], split: str | None) -> Path:
        """The folder of these images."""
        if not self.find_images:
            return self.root
        bases = [self.root, *(self.root / name for name in IMAGE_FOLDERS)]
        of_split = [folder for base in bases for folder in split_folders(base, split)] if split else []
        beside = self.source if self.source.is_dir() else self.source.parent
        inside = [beside] if beside.is_relative_to(self.root) else []
        usual = list(dict.fromkeys([*inside, *bases] if self.source.is_dir() else [*bases, *of_split, *inside]))
        others = sorted(path for path in self.root.iterdir() if path.is_dir() and path not in usual)
        return self.finder.folder_of(names, usual, others)

    def locate(self, image: str | StoredImage, split: str | None, where: str) -> _Located:
        """The path and the id of an image; the path does not exist if the image is not found."""
        if isinstance(image, StoredImage):
            return _Located(image, image.name)
        key = (split, image)
        if key not in self.located:
            folder = self.folders[split]
            name = check_image_name(image, folder, where)
            found = self.finder.find(folder, name) if self.find_images else None
            if found is not None and found.bridged:
                self.bridged[found.bridged].setdefault(name, (folder / found.name).relative_to(self.root).as_posix())
            self.located[key] = _Located(folder / (found.name if found else name), _without_suffix(name))
        return self.located[key]

    def notices(self) -> list[str]:
        """What was bridged between the names in the file and those on disk."""
        how = {"suffix": "without a suffix", "Unicode": "in another Unicode form than on disk"}
        return [
            f"{self.source} names {len(names):,} {'images' if len(names) > 1 else 'image'} {how[kind]}; the one file "
            f"that fits each is used ({join_names(f'{name}: {file}' for name, file in names.items())})."
            for kind, names in self.bridged.items()
            if names
        ]
