"""MS COCO captions: the official layout of 2014 and 2017, and Karpathy's splits of it.

    root/annotations/captions_train2017.json   root/train2017/000000000009.jpg
    root/annotations/captions_val2017.json     root/val2017/000000000139.jpg
    root/annotations/image_info_test2014.json  root/test2014/COCO_test2014_000000000001.jpg

2014 and 2017 have the same 123,287 images with the same ids, split differently. Karpathy's splits, which were made for
2014, therefore work with both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from captioner.config import CocoConfig
from captioner.data.dataset import Box, CaptionDataset, CaptionedImage, ImageId
from captioner.data.datasets import karpathy
from captioner.data.datasets.annotation_files import (
    check_image_name,
    data_root,
    get_field,
    join_names,
    path_exists,
    read_json,
)
from captioner.data.datasets.coco_captions import captioned_images, read_captions
from captioner.data.datasets.coco_categories import LABEL_NAMES as LABEL_NAMES
from captioner.data.datasets.image_files import FolderListing
from captioner.errors import DataError
from captioner.text.coco_objects import CHAIR_NAMES

YEARS = (2017, 2014)
PARTS = ("train", "val")
TEST_YEARS = (2014, 2015, 2017)  # the test images have no public captions; the captioning server asks for 2014
EXPECTED = "annotations/captions_train2017.json, train2017/ and so on"
OBJECT_NAMES = CHAIR_NAMES
BOXES_EXPECTED = (
    "put COCO's instances_*.json beside the captions in annotations/ (`data download coco --parts annotations` gets "
    "them)"
)

NOT_KARPATHY = (
    "This is COCO's official val{year}. Papers report captioning scores on Karpathy's test split (5,000 images): "
    "set data.karpathy to compare with them."
)
TRAIN_2017_OVERLAPS = (
    "COCO's official train2017 holds most images of Karpathy's val and test splits: "
    "do not report scores on Karpathy's splits for a model trained on it."
)


def available_splits(config: CocoConfig) -> list[str]:
    """The splits that the folder's annotation files (or Karpathy's files) define."""
    root = data_root(config, EXPECTED)
    if config.karpathy is not None:
        return karpathy.available_splits(karpathy.find(root, config.karpathy))
    test = ["test"] if _test_files(root, config.year) else []
    if test and not _years(root):
        return test
    year = _year(root, config.year)
    return [*(part for part in PARTS if path_exists(_annotations(root, "captions", part, year))), *test]


def read_split(config: CocoConfig, split: str) -> CaptionDataset:
    """One split as the files define it. Does not check that the images exist."""
    return _split(config, split, find_images=True)


def read_references(config: CocoConfig, split: str) -> CaptionDataset:
    """`read_split` without looking for images."""
    return _split(config, split, find_images=False)


def _split(config: CocoConfig, split: str, *, find_images: bool) -> CaptionDataset:
    root = data_root(config, EXPECTED)
    if config.karpathy is not None:
        return _read_karpathy(config, root, split, find_images=find_images)
    if split == "test":
        return _read_test(config, root)
    year = _year(root, config.year)
    images = _read_official(root, split, year)
    notices = []
    if split == "val":
        notices.append(NOT_KARPATHY.format(year=year))
    elif year == 2017:
        notices.append(TRAIN_2017_OVERLAPS)
    if config.year is None and len(_years(root)) > 1:
        notices.append(f"{root} holds COCO 2014 and 2017; {year} is used. Set data.year to choose.")
    return CaptionDataset(f"coco{year}", split, tuple(images), tuple(notices))


def split_advice(config: CocoConfig, split: str) -> str:
    """What to do where this split is missing."""
    if config.karpathy is not None:
        return f"data.karpathy={config.karpathy} should define it"
    if split not in PARTS:
        return (
            "COCO's official test images have no public captions: set data.karpathy to Karpathy's splits, or put "
            f"image_info_test2014.json into {config.root}/annotations to caption them for the test server"
        )
    names = " or ".join(f"captions_{split}{year}.json" for year in YEARS)
    return f"put {names} into {config.root}/annotations, or set data.karpathy to Karpathy's splits"


def has_boxes(config: CocoConfig, split: str) -> bool:
    """Whether the folder has an `annotations/instances_*.json` for this split."""
    root = data_root(config, EXPECTED)
    year = _year(root, config.year, prefer=2014 if config.karpathy else 2017)
    return any(path_exists(_annotations(root, "instances", part, year)) for part in _parts(config, split))


def load_boxes(config: CocoConfig, split: str) -> dict[ImageId, tuple[Box, ...]]:
    """Image id → the bounding boxes of its objects, from `annotations/instances_*.json`."""
    root = data_root(config, EXPECTED)
    wanted = {image.image_id for image in read_split(config, split).images}
    year = _year(root, config.year, prefer=2014 if config.karpathy else 2017)
    boxes: dict[ImageId, list[Box]] = {}
    for part in _parts(config, split):
        path = _annotations(root, "instances", part, year)
        if path_exists(path):
            for image_id, box in _read_boxes(path):
                if image_id in wanted:
                    boxes.setdefault(image_id, []).append(box)
    return {image_id: tuple(found) for image_id, found in boxes.items()}


def _parts(config: CocoConfig, split: str) -> tuple[str, ...]:
    """The official splits whose annotations hold the images of `split`: for Karpathy's splits, all."""
    return PARTS if config.karpathy else (split,)


def _read_boxes(path: Path) -> list[tuple[ImageId, Box]]:
    data = read_json(path)
    labels = {
        get_field(category, "id", int, f"{path}: categories", number): get_field(
            category, "name", str, f"{path}: categories", number
        )
        for number, category in enumerate(get_field(data, "categories", list, f"{path}"))
    }
    where = f"{path}: annotations"
    found = []
    for number, annotation in enumerate(get_field(data, "annotations", list, f"{path}")):
        box = get_field(annotation, "bbox", list, where, number)
        label = labels.get(get_field(annotation, "category_id", int, where, number))
        if label is None:
            raise DataError(f"{where}[{number}] has a category_id that is not among the file's categories.")
        if len(box) != 4 or not all(type(value) in (int, float) for value in box):
            raise DataError(f"{where}[{number}]: 'bbox' is {box!r}. Expected four numbers: left, top, width, height.")
        found.append((get_field(annotation, "image_id", (int, str), where, number), Box(label, *map(float, box))))
    return found


def _read_official(root: Path, part: str, year: int) -> list[CaptionedImage]:
    path = _annotations(root, "captions", part, year)
    folder = _image_folder(root, f"{part}{year}")
    return [
        CaptionedImage(entry.image_id, folder / check_image_name(entry.file_name, folder, f"{path}"), entry.captions)
        for entry in read_captions(path)
    ]


def _read_karpathy(config: CocoConfig, root: Path, split: str, *, find_images: bool) -> CaptionDataset:
    path = karpathy.find(root, config.karpathy or "")
    if not path.is_dir():
        chosen, notices = karpathy.read_split(path, split, "coco")
        folders = {name: _image_folder(root, name) for name in {image.folder for image in chosen}}
        newer = [_image_folder(root, f"{part}2017") for part in PARTS]
        listings = {folder: FolderListing(folder) for folder in {*folders.values(), *newer} if find_images}
        images = [
            CaptionedImage(
                image.image_id,
                _karpathy_image(folders[image.folder], newer, image, path, listings),
                image.captions,
            )
            for image in chosen
        ]
        return CaptionDataset("coco-karpathy", split, tuple(images), tuple(notices))
    ids, notices = karpathy.read_list(path, split)
    year = _year(root, config.year, prefer=2014)
    annotated: dict[ImageId, CaptionedImage] = {}
    for part in PARTS:
        if path_exists(_annotations(root, "captions", part, year)):
            annotated.update((image.image_id, image) for image in _read_official(root, part, year))
    found = tuple(annotated[image_id] for image_id in ids if image_id in annotated)
    if not found:
        raise DataError(f"None of the {len(ids):,} images of {path} ({split}) is in the annotations of {root}.")
    if len(found) < len(ids):
        notices.append(
            f"Only {len(found):,} of the {len(ids):,} images in Karpathy's lists for {split} are in the "
            f"annotations of {root}: scores are not comparable with published ones."
        )
    return CaptionDataset("coco-karpathy", split, found, tuple(notices))


def _karpathy_image(
    folder: Path,
    newer: Sequence[Path],
    image: karpathy.KarpathyImage,
    source: Path,
    listings: Mapping[Path, FolderListing],
) -> Path:
    """The image under the name in Karpathy's file (train2014, val2014), or under its name in a folder of 2017.

    listings: of all folders; empty where no image is looked for. A `stat` call for each of them would be slow.
    """
    name = check_image_name(image.file_name, folder, f"{source}")
    if listings and type(image.image_id) is int and not _has(listings[folder], folder, name):
        name_2017 = f"{image.image_id:012d}.jpg"
        found = (other / name_2017 for other in newer if _has(listings[other], other, name_2017))
        return next(found, folder / name)
    return folder / name


def _has(listing: FolderListing, folder: Path, name: str) -> bool:
    """Whether the file is in the folder, of which the listing may spell a name in another way."""
    return name in listing.names or (bool(listing.names) and path_exists(folder / name))


def _years(root: Path) -> list[int]:
    return [year for year in YEARS if any(path_exists(_annotations(root, "captions", part, year)) for part in PARTS)]


def _year(root: Path, wanted: int | None, prefer: int = 2017) -> int:
    """The year whose captions are used: `wanted`; if None, `prefer` if the folder has it, else the year it has."""
    years = _years(root)
    if not years or (wanted is not None and wanted not in years):
        year = wanted or prefer
        other = f" (only of {years[0]})" if years else ""
        raise DataError(
            f"{root} has no COCO captions of {year}{other}. Expected annotations/captions_train{year}.json and "
            f"annotations/captions_val{year}.json in it."
        )
    return wanted or (prefer if prefer in years else years[0])


def _annotations(root: Path, kind: str, part: str, year: int) -> Path:
    return root / "annotations" / f"{kind}_{part}{year}.json"


def _test_files(root: Path, year: int | None) -> dict[str, Path]:
    """Name of the set (test2014, test-dev2015, …) → the list of its images, of `year` only unless that is None."""
    names = [f"{part}{of_year}" for of_year in TEST_YEARS if year in (None, of_year) for part in ("test", "test-dev")]
    files = {name: root / "annotations" / f"image_info_{name}.json" for name in names}
    return {name: path for name, path in files.items() if path_exists(path)}


def _read_test(config: CocoConfig, root: Path) -> CaptionDataset:
    """The test images, which have no captions. The folder of test-dev2015's images is test2015."""
    files = _test_files(root, config.year)
    if not files:
        raise DataError(f"{root} has no annotations/image_info_test{config.year or 2014}.json.")
    name, path = next(iter(files.items()))
    year = int(name[-4:])
    folder = _image_folder(root, f"test{year}")
    document = read_json(path)
    listed = {**document, "annotations": []} if isinstance(document, dict) else document
    images = tuple(
        CaptionedImage(entry.image_id, folder / check_image_name(entry.file_name, folder, f"{path}"), ())
        for entry in captioned_images(listed, path)
    )
    others = join_names(list(files)[1:])
    notice = f"The images of {name} are used. {root / 'annotations'} also lists {others}: data.year chooses a year."
    return CaptionDataset(f"coco{year}", "test", images, (notice,) if others else ())


def _image_folder(root: Path, name: str) -> Path:
    """root/train2017, or root/images/train2017 if only that exists."""
    folder = root / check_image_name(name, root, f"{root}: the image folder") if name else root
    inside_images = root / "images" / name
    return inside_images if not path_exists(folder) and path_exists(inside_images) else folder
