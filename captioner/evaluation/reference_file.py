"""Reference captions from one file, whatever its layout, without its images.

captions_val2014.json             COCO's annotations; `file_name` may be left out
dataset_coco.json                 Karpathy's splits
captions.csv, .tsv, .txt, .jsonl  the tables that data=folder reads
Flickr8k.token.txt                NAME.jpg#0<TAB>caption
{"80": ["a dog", …], …}           pycocoevalcap's references; also {"80": [{"caption": "a dog"}, …], …}
[{"image_id": 80, "caption": …}]  COCO's results format, with several captions an image
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from captioner.data.dataset import CaptionDataset, CaptionedImage, ImageId
from captioner.data.datasets.annotation_files import path_exists, read_json
from captioner.data.datasets.coco_captions import captioned_images
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
    images, splits, notices = _read(path)
    named = [name for name in SPLITS if name in splits.values()]
    if named:
        _check_all_have_splits(path, images, splits)
        name = _chosen_split(path, named, split)
        images = [image for image in images if splits[image.image_id] == name]
    else:
        name = split_name(split or "") or split or WHOLE
    return checked_references(CaptionDataset(path.stem, name, tuple(images), tuple(notices)), f"references={path}")


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


def _read(path: Path) -> tuple[Images, Mapping[ImageId, str | None], list[str]]:
    """(all images, image id → split or None, notices)."""
    document = read_json(path) if path.suffix.lower() == ".json" and not _holds_json_lines(path) else None
    if _is_of_pycocoevalcap(document):
        return _read_lists(path, repeated_ids=isinstance(document, list)), {}, []
    if _lacks_names(document):
        entries = captioned_images(document, path, need_names=False)
        images = [CaptionedImage(entry.image_id, Path(entry.file_name), entry.captions) for entry in entries]
        return images, {entry.image_id: split_name(entry.split or "") for entry in entries}, []
    return read_file(path, path.parent, find_images=False)


def _holds_json_lines(path: Path) -> bool:
    """Whether the first line is a whole object and not the last line."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        first = file.readline().strip()
        return first.startswith("{") and first.endswith("}") and bool(file.readline().strip())


def _is_of_pycocoevalcap(document: Any) -> bool:
    """Whether it is an object of lists of captions, or a list in COCO's results format."""
    if isinstance(document, list):
        return not document or (isinstance(document[0], dict) and document[0].keys() >= {"image_id", "caption"})
    if not isinstance(document, dict):
        return document is not None
    if document.keys() & {"images", "annotations", "data"} or (all(map(split_name, document)) and document):
        return False
    first: Any = next(iter(document.values()), [])
    caption = first[0] if isinstance(first, list) and first else ""
    return not isinstance(first, dict) and (not isinstance(caption, dict) or "caption" in caption)


def _lacks_names(document: Any) -> bool:
    """Whether it is COCO's format without the names of images, which scores do not need."""
    if not isinstance(document, dict) or not isinstance(document.get("images"), list):
        return False
    return any(isinstance(image, dict) and "id" in image and "file_name" not in image for image in document["images"])


def _read_lists(path: Path, *, repeated_ids: bool) -> Images:
    """The images of an object or a list of captions."""
    captions: dict[ImageId, list[str]] = {}
    repeated: dict[ImageId, None] = {}
    rows = read_caption_lists(path)
    if all(isinstance(image_id, str) and re.fullmatch(r"0|[1-9]\d{0,17}", image_id) for image_id, _ in rows):
        rows = [(int(image_id), of_image) for image_id, of_image in rows]  # JSON has no other keys than text
    for image_id, of_image in rows:
        if image_id in captions:
            repeated[image_id] = None
        captions.setdefault(image_id, []).extend(of_image)
    if repeated and not repeated_ids:
        raise DataError(f"{path}: {len(repeated)} image ids occur more than once: {listed(repeated)}.")
    return [CaptionedImage(image_id, Path(str(image_id)), tuple(of)) for image_id, of in captions.items()]
