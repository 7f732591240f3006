"""Reference captions from one file, whatever its layout, without its images.

captions_val2014.json             COCO's annotations; `file_name` may be left out
dataset_coco.json                 Karpathy's splits
captions.csv, .tsv, .txt, .jsonl  the tables that data=folder reads
Flickr8k.token.txt                NAME.jpg#0<TAB>caption
{"80": ["a dog", …], …}           pycocoevalcap's references; also {"80": [{"caption": "a dog"}, …], …}
[{"image_id": 80, "caption": …}]  COCO's results format, with several captions an image
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from captioner.data.dataset import CaptionDataset, CaptionedImage, ImageId
from captioner.data.datasets import karpathy
from captioner.data.datasets.annotation_files import path_exists, read_json
from captioner.data.datasets.coco import read_captions
from captioner.data.datasets.flickr8k import read_token_lines
from captioner.data.datasets.folder import read_file
from captioner.data.datasets.registry import checked_references
from captioner.data.datasets.splits import SPLITS, split_name
from captioner.errors import DataError, near_misses
from captioner.metrics.coco_results import listed, read_caption_lists

WHOLE = "all"
"""The split of a file without splits."""

Images = list[CaptionedImage]


def read_reference_file(path: Path, split: str | None = None) -> CaptionDataset:
    """The images of a file of references, with their captions. The paths of the images are not looked for.

    split: which split, if the file has splits; None: "val". A file without splits is read whole, and `split` is then
    only its name (None: "all"). Raises DataError for a file that cannot be read, has no such split, or no captions.
    """
    if not path_exists(path) or path.is_dir():
        problem = "is a folder" if path_exists(path) else "does not exist"
        raise DataError(
            f"references={path} {problem}: expected a file of reference captions. A data set in a folder is given as "
            "data=NAME data.root=DIR."
        )
    document = read_json(path) if path.suffix.lower() == ".json" else None
    if karpathy.is_karpathy(document):
        name = _chosen_split(path, SPLITS, split)
        found, notices = karpathy.read_split(path, name, str(document.get("dataset")))
        images = [CaptionedImage(image.image_id, Path(image.file_name), image.captions) for image in found]
        return checked_references(CaptionDataset(path.stem, name, tuple(images), tuple(notices)), f"{path}, {name},")
    images, splits = _read(path, document)
    named = [name for name in SPLITS if name in splits.values()]
    if named:
        _check_all_have_splits(path, images, splits)
        name = _chosen_split(path, named, split)
        images = [image for image in images if splits[image.image_id] == name]
    else:
        name = split_name(split or "") or split or WHOLE
    return checked_references(CaptionDataset(path.stem, name, tuple(images)), f"references={path}")


def _check_all_have_splits(path: Path, images: Images, splits: Mapping[ImageId, str | None]) -> None:
    without = [image.image_id for image in images if splits[image.image_id] is None]
    if without:
        raise DataError(
            f"{path} gives a split ({', '.join(SPLITS)}) for some images, but not for {len(without):,} of them "
            f"({listed(without)})."
        )


def _chosen_split(path: Path, available: Iterable[str], wanted: str | None) -> str:
    """The split to read, of those that the file has."""
    available = list(available)
    name = split_name(wanted or "val")
    if name not in available:
        problem = f"has no split {wanted!r}" if wanted else "has splits, but no val"
        raise DataError(
            f"{path} {problem}.{near_misses(wanted or 'val', available)} Set split to one of: {', '.join(available)}."
        )
    return name


def _read(path: Path, document: Any) -> tuple[Images, dict[ImageId, str | None]]:
    """(all images, image id → split or None)."""
    if isinstance(document, dict) and "images" in document:
        entries = read_captions(path, need_names=False)
        images = [CaptionedImage(entry.image_id, Path(entry.file_name), entry.captions) for entry in entries]
        return images, {entry.image_id: split_name(entry.split or "") for entry in entries}
    if document is not None:
        return _read_lists(path, repeated_ids=isinstance(document, list)), {}
    if path.suffix.lower() == ".token" or path.name.lower().endswith(".token.txt"):
        captions: dict[str, list[str]] = {}
        for name, caption in read_token_lines(path):
            captions.setdefault(Path(name).stem, []).append(caption)
        return [CaptionedImage(image_id, Path(image_id), tuple(of)) for image_id, of in captions.items()], {}
    return read_file(path, path.parent, find_images=False)


def _read_lists(path: Path, *, repeated_ids: bool) -> Images:
    """The images of an object or a list of captions."""
    captions: dict[ImageId, list[str]] = {}
    repeated: dict[ImageId, None] = {}
    for image_id, of_image in read_caption_lists(path):
        if image_id in captions:
            repeated[image_id] = None
        captions.setdefault(image_id, []).extend(of_image)
    if repeated and not repeated_ids:
        raise DataError(f"{path}: {len(repeated)} image ids occur more than once: {listed(repeated)}.")
    return [CaptionedImage(image_id, Path(str(image_id)), tuple(of)) for image_id, of in captions.items()]
