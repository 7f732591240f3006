"""Which features belong to which image: the names of files of features follow one of a few habits."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from types import MappingProxyType

from captioner.data.dataset import CaptionDataset, CaptionedImage
from captioner.data.datasets.annotation_files import join_names
from captioner.data.features.precomputed.region_features import FeatureStore
from captioner.errors import DataError

_NUMBER = re.compile(r"(\d+)$")


def _number_of(image: CaptionedImage) -> str:
    """391895 for COCO_val2014_000000391895.jpg; "" if the name does not end in a number."""
    match = _NUMBER.search(PurePosixPath(image.path.name).stem)
    return str(int(match[1])) if match else ""


HABITS: Mapping[str, Callable[[CaptionedImage], str]] = MappingProxyType(
    {
        "the image's id": lambda image: str(image.image_id),
        "the image file's name without its suffix": lambda image: PurePosixPath(image.path.name).stem,
        "the image file's name": lambda image: image.path.name,
        "the number at the end of the image file's name": _number_of,
    }
)


@dataclass(frozen=True)
class Match:
    """keys: index in the data set → key; missing: the indices of the other images; habit: how they are named."""

    keys: dict[int, str]
    missing: list[int]
    habit: str


def match_features(dataset: CaptionDataset, store: FeatureStore) -> Match:
    """Find the key of each image: by the habit that finds most of them, the same one for all.

    DataError if no image has features, or two images have the same ones.
    """
    known = store.keys()
    best = Match({}, list(range(len(dataset))), "")
    for habit, name in HABITS.items():
        names = [name(image) for image in dataset]
        keys = {index: key for index, key in enumerate(names) if key in known}
        if len(keys) > len(best.keys) and len(set(keys.values())) == len(keys):
            best = Match(keys, [index for index in range(len(dataset)) if index not in keys], habit)
    if not best.keys:
        raise DataError(
            f"{store} has no features of the images of {dataset.split}. It has {len(known):,} names, such as "
            f"{join_names(sorted(known))}; the images are {_examples(dataset, range(len(dataset)))}. Names are "
            f"compared with {', '.join(HABITS)}."
        )
    return best


def missing_error(dataset: CaptionDataset, store: FeatureStore, match: Match) -> DataError:
    """The error for images without features."""
    return DataError(
        f"{store} lacks the features of {len(match.missing):,} of the {len(dataset):,} images of {dataset.name} "
        f"{dataset.split} ({_examples(dataset, match.missing)}); the others are named by {match.habit}. Set "
        "data.on_bad_image=skip to leave them out."
    )


def _examples(dataset: CaptionDataset, indices: Sequence[int]) -> str:
    return join_names(f"{dataset.images[index].image_id} ({dataset.images[index].path.name})" for index in indices)
