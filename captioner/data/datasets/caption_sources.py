"""Which files of a folder hold its captions: those that settings name, or those found by their names."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable
from glob import glob
from pathlib import Path
from typing import NamedTuple

from captioner.config import FolderConfig
from captioner.data.datasets.annotation_files import first_existing, join_names, path_exists
from captioner.data.datasets.layouts.text_beside_image import has_text_beside_images, images_in
from captioner.data.datasets.splits import ALIASES, SPLITS, split_name
from captioner.errors import DataError

STEMS = ("captions", "metadata", "annotation", "annotations")
SUFFIXES = (".csv", ".jsonl", ".json", ".txt", ".tsv", ".parquet", ".token")
DEFAULT_NAMES = tuple(f"{stem}{suffix}" for stem in STEMS for suffix in SUFFIXES)
UNNAMED = (".csv", ".jsonl", ".json", ".tsv", ".parquet", ".token")  # of a file with another name; .txt may be anything
FOLDERS = ("", "annotations", "data")  # in which one file per split is looked for
NO_CAPTIONS = ("instances", "person_keypoints", "stuff", "panoptic", "image_info")  # COCO's other annotations


class Source(NamedTuple):
    """A file of captions, or a folder of images. split: that of all its images; None: the file says."""

    path: Path
    split: str | None = None


def find_sources(root: Path, config: FolderConfig) -> list[Source]:
    """The files of captions of a data set; DataError if there are none, or several that may be meant."""
    given = {split: getattr(config, split) for split in SPLITS if getattr(config, split) is not None}
    if given:
        return [Source(path, split) for split, pattern in given.items() for path in _matches(root, split, pattern)]
    if config.captions is not None:
        path = first_existing([root / Path(config.captions).expanduser(), Path(config.captions).expanduser()])
        if path is None or path.is_dir():
            raise DataError(
                f"data.captions={config.captions} is not a file, neither in {root} nor in the current folder."
            )
        return [Source(path)]
    default = first_existing(root / name for name in DEFAULT_NAMES)
    if default is not None:
        _check_no_other(root, default)
        return [Source(default)]
    per_split = _one_file_per_split(root)
    if per_split:
        return per_split
    others = sorted(path for path in root.iterdir() if path.suffix.lower() in UNNAMED and path.is_file())
    if len(others) == 1:
        return [Source(others[0])]
    if len(others) > 1 and _family(others[0].name) == _family(others[-1].name) and others[0].suffix == ".parquet":
        return [Source(path) for path in others]  # 00000-of-00002.parquet
    if not others and has_text_beside_images(root):
        return [Source(root)]
    raise DataError(_nothing(root, others))


def _check_no_other(root: Path, default: Path) -> None:
    """DataError if other files could as well be the captions: captions.json beside captions.csv, or one per split.

    Files of another stem are taken for something else, such as the sizes in metadata.csv beside captions.csv.
    """
    same = [path for suffix in SUFFIXES if path_exists(path := default.with_suffix(suffix)) and path != default]
    named = [path for path in sorted(root.glob("*")) if path.suffix.lower() in UNNAMED and path.is_file()]
    of_splits = [path for path in named if split_in_name(path.name) and not path.name.startswith(NO_CAPTIONS)]
    if len({split_in_name(path.name) for path in of_splits}) < 2:
        of_splits = []
    if same or of_splits:
        others = join_names(path.name for path in [*same, *of_splits])
        raise DataError(
            f"{root} has several possible captions files ({default.name} and {others}). Set data.captions to the one "
            "that has all images, or data.train and data.val for one file per split."
        )


def split_in_name(name: str) -> str | None:
    """The split that a file name contains as a word: `captions_train2017.json`, `val-00000-of-00001.parquet`."""
    words = re.split(r"[^a-z]+", name.rpartition(".")[0].lower() if "." in name else name.lower())
    splits = {split for word in words if (split := split_name(word))}
    return splits.pop() if len(splits) == 1 else None


def split_folders(folder: Path, split: str) -> list[Path]:
    """The subfolders for the images of a split, such as `train`, `train2017`, `train_images`; `train` first."""
    exact = [folder / name for name in (split, *(alias for alias, name in ALIASES.items() if name == split))]
    try:
        entries = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    except OSError:
        return []
    named = [folder / name for name in entries if split_in_name(name) == split]
    return sorted(named, key=lambda path: path not in exact)


def _matches(root: Path, split: str, pattern: str) -> list[Path]:
    """The files of `data.train=PATTERN` and the like, relative to root or to the current folder."""
    expanded = Path(pattern).expanduser()
    for base in (root, Path()):
        path = base / expanded
        if path_exists(path):
            return [_captions_in(path) or path if path.is_dir() else path]
        if re.search(r"[*?\[]", pattern):
            found = sorted(glob(str(path)))  # noqa: PTH207 - the pattern may be absolute
            if found:
                return [Path(name) for name in found]
    raise DataError(
        f"data.{split}={pattern} matches no file, neither in {root} nor in the current folder. Expected a file of "
        "captions, a pattern such as 'train-*.parquet', or a folder of images."
    )


def _captions_in(folder: Path) -> Path | None:
    """The file of captions in the folder of a split, such as Hugging Face's `train/metadata.csv`."""
    return first_existing(folder / name for name in DEFAULT_NAMES)


def _one_file_per_split(root: Path) -> list[Source]:
    """Files with the name of a split in theirs, for two splits or more; [] if there are none."""
    folders = [(split, folder) for split in SPLITS for folder in split_folders(root, split)]
    inside = [Source(path, split) for split, folder in folders if (path := _captions_in(folder))]
    if len({source.split for source in inside}) > 1:
        return inside
    for folder in FOLDERS:
        families: defaultdict[str, list[Source]] = defaultdict(list)
        for path in sorted((root / folder).glob("*")):
            split = split_in_name(path.name) if path.suffix.lower() in SUFFIXES else None
            if split and not path.name.startswith(NO_CAPTIONS) and path.is_file():
                families[_family(path.name)].append(Source(path, split))
        several = {name: sources for name, sources in families.items() if len({s.split for s in sources}) > 1}
        if len(several) > 1:
            several = {name: sources for name, sources in several.items() if name.startswith("captions")} or several
        if len(several) > 1:
            names = join_names((source.path.name for sources in several.values() for source in sources), 6)
            raise DataError(
                f"{root / folder} has several possible captions files per split ({names}). Set data.train=FILE and "
                "data.val=FILE."
            )
        if several:
            return sorted(next(iter(several.values())), key=lambda source: SPLITS.index(str(source.split)))
    return []


def _family(name: str) -> str:
    """The name without the split and without numbers: the same for all splits of a data set."""
    words = re.split(r"([^a-z]+)", name.lower())
    return re.sub(r"[\W\d_]+", " ", "".join("" if split_name(word) else word for word in words)).strip()


def _nothing(root: Path, others: Iterable[Path]) -> str:
    """The message for a folder without a file of captions; it lists what is in the folder."""
    several = [path.name for path in others]
    if several:
        return (
            f"{root} has several possible captions files ({join_names(several)}). Set data.captions to one of them, or "
            "data.train and data.val for one file per split."
        )
    images = sum(1 for _ in images_in(root))
    names = sorted(f"{path.name}/" if path.is_dir() else path.name for path in root.iterdir())
    return (
        f"{root} has no captions file: it contains {join_names(names, 6) or 'nothing'}, with {images:,} images. "
        "Expected captions.csv (or .tsv, .json, .jsonl, .parquet), or cat.txt beside cat.jpg; data.captions names "
        "another file."
    )
