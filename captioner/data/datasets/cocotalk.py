"""The labels of ruotianluo's captioning code and of neuraltalk2: `cocotalk.json` and `cocotalk_label.h5`.

The JSON file has the images (id, file_path, split) and the words (ix_to_word, number → word). The HDF5 file has
`labels` (captions, L), word numbers padded with 0, and the first and last caption of each image, counted from 1:
`label_start_ix` and `label_end_ix`. Needs h5py (`pip install 'captioner[features]'`).

Captions come without punctuation, in lower case, cut at L words, and with rare words as UNK, because the files have
nothing else. The split restval is part of train, as in all work with these files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captioner.config import CocotalkConfig
from captioner.data.dataset import CaptionDataset, CaptionedImage, ImageId
from captioner.data.datasets.annotation_files import check_image_name, data_root, first_existing, read_json
from captioner.data.datasets.splits import SPLITS, split_name
from captioner.errors import DataError

EXPECTED = "cocotalk.json and cocotalk_label.h5"


def available_splits(config: CocotalkConfig) -> list[str]:
    """The splits of the images in the JSON file."""
    found = {_split(image, index, _file(config, "json")) for index, image in enumerate(_read(config)["images"])}
    return [split for split in SPLITS if split in found]


def read_split(config: CocotalkConfig, split: str) -> CaptionDataset:
    """One split, in the order of the JSON file. Does not check that the images exist."""
    path, root = _file(config, "json"), data_root(config, EXPECTED)
    about = _read(config)
    labels, first, last = _read_labels(_file(config, "h5"), len(about["images"]))
    words = {int(number): str(word) for number, word in about["ix_to_word"].items()}
    unknown = sorted(set(np.unique(labels).tolist()) - {0, *words})
    if unknown:
        raise DataError(
            f"{_file(config, 'h5')} has the word {unknown[0]}, which {path} does not have: the files belong to "
            "different data sets."
        )
    images = []
    for index, image in enumerate(about["images"]):
        if _split(image, index, path) != split:
            continue
        name = str(image.get("file_path") or image.get("filename") or image["id"])
        image_id: ImageId = image["id"] if isinstance(image["id"], int) else str(image["id"])
        rows = labels[first[index] - 1 : last[index]]
        captions = tuple(" ".join(words[number] for number in row[row > 0].tolist()) for row in rows)
        images.append(CaptionedImage(image_id, root / check_image_name(name, root, str(path)), captions))
    notice = (
        f"The captions of {path.name} are cut at {labels.shape[1]} words, and rare words are UNK in the references "
        "too: scores cannot be compared with those of other captions."
    )
    return CaptionDataset("cocotalk", split, tuple(images), (notice,))


def _read(config: CocotalkConfig) -> dict[str, Any]:
    path = _file(config, "json")
    about = read_json(path)
    if not isinstance(about, dict) or not isinstance(about.get("images"), list) or "ix_to_word" not in about:
        raise DataError(f"{path} is not a file of this kind: expected an object with images and ix_to_word.")
    for index, image in enumerate(about["images"]):
        if not isinstance(image, dict) or "id" not in image:
            raise DataError(f"{path}: images[{index}] has no id.")
    return about


def _split(image: dict[str, Any], index: int, path: Path) -> str:
    given = str(image.get("split", ""))
    split = "train" if given == "restval" else split_name(given)
    if split is None:
        raise DataError(f"{path}: images[{index}] has the split {given!r}. Expected train, restval, val or test.")
    return split


def _read_labels(path: Path, images: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """(labels (captions, L), first (images,) and last (images,) caption of each image, counted from 1)."""
    try:
        import h5py
    except ImportError as error:
        raise DataError(f"{path} needs a package that is not installed: pip install 'captioner[features]'.") from error
    try:
        with h5py.File(path, "r") as file:
            labels, first, last = (
                np.asarray(file[name]).astype(np.int64) for name in ("labels", "label_start_ix", "label_end_ix")
            )
    except (OSError, KeyError) as error:
        raise DataError(
            f"{path} cannot be read ({error}). Expected an HDF5 file with labels, label_start_ix and label_end_ix."
        ) from error
    if labels.ndim != 2 or first.shape != (images,) or last.shape != (images,):
        raise DataError(
            f"{path} has the captions of {len(first):,} images, and the JSON file has {images:,}: the files belong to "
            "different data sets."
        )
    if images and (first.min() < 1 or last.max() > len(labels)):
        raise DataError(
            f"{path} has {len(labels):,} captions, but label_end_ix goes to {last.max():,}. Is it complete?"
        )
    return labels, first, last


def _file(config: CocotalkConfig, kind: str) -> Path:
    """The JSON or the HDF5 file: the one that is set, the one of the usual name, or the only one with its suffix."""
    root = data_root(config, EXPECTED)
    given, usual = (config.words, "cocotalk.json") if kind == "json" else (config.labels, "cocotalk_label.h5")
    key = "data.words" if kind == "json" else "data.labels"
    if given is not None:
        path = first_existing([root / Path(given).expanduser(), Path(given).expanduser()])
        if path is None:
            raise DataError(f"{key}={given} is neither in {root} nor in the current folder.")
        return path
    matches = sorted(root.glob("*talk.json" if kind == "json" else "*_label.h5"))
    if len(matches) == 1 or (root / usual).is_file():
        return root / usual if (root / usual).is_file() else matches[0]
    raise DataError(f"{root} has no {usual}. Set {key}=FILE.")
