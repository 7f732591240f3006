"""Flickr8k (Hodosh, Young & Hockenmaier, JAIR 2013), in its two common layouts.

    official: Flickr8k.token.txt  Flickr_8k.{train,dev,test}Images.txt  Images/ or Flicker8k_Dataset/
    CSV:      captions.txt (image,caption)                              Images/

The text files may also be in a folder `Flickr8k_text/`. Without lists of splits, as in the CSV layout, the images are
split by a hash (see `splits`), and a notice says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from captioner.config import Flickr8kConfig
from captioner.data.dataset import CaptionDataset, CaptionedImage
from captioner.data.datasets.annotation_files import (
    check_image_name,
    data_root,
    first_existing,
    join_names,
    read_lines,
    read_text,
)
from captioner.data.datasets.layouts.caption_layout import AnnotationFile, ReadOptions
from captioner.data.datasets.layouts.tables import TABLE
from captioner.data.datasets.splits import SPLITS, split_by_hash
from captioner.errors import DataError

EXPECTED = "Flickr8k.token.txt (or captions.txt) and Images/"
TEXT_FOLDERS = ("", "Flickr8k_text")
IMAGE_FOLDERS = ("Images", "images", "Flicker8k_Dataset", "Flickr8k_Dataset/Flicker8k_Dataset", "Flickr8k_Dataset")
LISTS = {split: f"Flickr_8k.{'dev' if split == 'val' else split}Images.txt" for split in SPLITS}
VAL_FRACTION = 1 / 8  # of 8,091 images: about the official 1,000 for val, and for test
NONEXISTENT = "2258277193_586949ec62.jpg.1"  # the official file has captions of this image, which does not exist
HASHED_SPLITS = (
    "This copy of Flickr8k has no lists of splits (Flickr_8k.trainImages.txt and so on), so it was split by a hash of "
    "the image ids: scores are not comparable with published ones."
)


def available_splits(config: Flickr8kConfig) -> list[str]:
    """The splits that have a list of images; all three if there is no list."""
    root = data_root(config, EXPECTED)
    return [split for split in SPLITS if _text_file(root, LISTS[split])] or list(SPLITS)


def split_advice(config: Flickr8kConfig, split: str) -> str:
    """What to do where this split is missing."""
    return f"put {LISTS[split]} beside the other lists of splits, or remove all lists to split by a hash"


def read_split(config: Flickr8kConfig, split: str) -> CaptionDataset:
    """One split as the files define it. Does not check that the images exist."""
    root = data_root(config, EXPECTED)
    source, captions = _read_captions(root)
    list_file = _text_file(root, LISTS[split])
    if list_file is not None:
        names = list(dict.fromkeys(read_lines(list_file)))
        without = [name for name in names if name not in captions]
        if without:
            raise DataError(
                f"{source} has no captions for {len(without):,} of the {len(names):,} images in {list_file} "
                f"({join_names(without)}). Do both files belong to the same data set?"
            )
        notices: tuple[str, ...] = ()
    else:
        splits = split_by_hash((Path(name).stem for name in captions), VAL_FRACTION)
        names = [name for name in captions if splits[Path(name).stem] == split]
        notices = (HASHED_SPLITS,)
    folder = first_existing(root / name for name in IMAGE_FOLDERS) or root / IMAGE_FOLDERS[0]
    images = [
        CaptionedImage(Path(name).stem, folder / check_image_name(name, folder, f"{source}"), tuple(captions[name]))
        for name in names
    ]
    return CaptionDataset("flickr8k", split, tuple(images), notices)


def _read_captions(root: Path) -> tuple[Path, dict[str, list[str]]]:
    """(the captions file, image file name → captions, in the file's order)."""
    token_file = _text_file(root, "Flickr8k.token.txt")
    table = _text_file(root, "captions.txt")
    source = token_file or table
    if source is None:
        raise DataError(f"{root} has no captions: expected Flickr8k.token.txt or captions.txt (image,caption) in it.")
    captions: dict[str, list[str]] = {}
    for name, caption in read_token_lines(source) if source == token_file else _table_rows(source):
        if name != NONEXISTENT:
            captions.setdefault(name, []).append(caption)
    return source, captions


def _table_rows(path: Path) -> Iterator[tuple[str, str]]:
    """(image, caption) for every row of a table with a header."""
    for entry in TABLE.read(AnnotationFile(path, ReadOptions())).checked().entries:
        yield from ((str(entry.images[0]), caption) for caption in entry.captions)


def read_token_lines(path: Path) -> Iterator[tuple[str, str]]:
    """(image, caption) for every line `name.jpg#0<TAB>caption`."""
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        key, tab, caption = line.partition("\t")
        name, mark, index = key.strip().rpartition("#")
        if not (tab and mark and name and index.isdecimal()):
            raise DataError(f"{path}, line {number}: expected NAME.jpg#0, a tab and the caption, found {line[:60]!r}.")
        yield name, caption.strip()


def _text_file(root: Path, name: str) -> Path | None:
    return first_existing(root / folder / name for folder in TEXT_FOLDERS)
