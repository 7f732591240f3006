"""The names of splits, and splits made by a hash for data sets that have none."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from captioner.data.dataset import ImageId

SPLITS = ("train", "val", "test")
ALIASES = {"dev": "val", "valid": "val", "validation": "val"}


def split_name(name: str) -> str | None:
    """train, val or test, for any accepted spelling of it; None for other names."""
    normalized = name.strip().lower()
    normalized = ALIASES.get(normalized, normalized)
    return normalized if normalized in SPLITS else None


def split_by_hash(image_ids: Iterable[ImageId], val_fraction: float) -> dict[ImageId, str]:
    """Image id → split: a fraction `val_fraction` for val, the same for test, the rest for train.

    The SHA-256 of an id decides, so an image is in the same split on every machine, whatever images are added later.
    Exception: if a split is empty although there are three images or more and `val_fraction` is not 0, it gets the
    image with the lowest hash of the largest split.
    """
    ids = list(dict.fromkeys(image_ids))
    chosen = assign_splits(np.array([unit_hash(image_id) for image_id in ids]), val_fraction)
    return {image_id: SPLITS[number] for image_id, number in zip(ids, chosen.tolist(), strict=True)}


def assign_splits(hashes: NDArray[np.float64], val_fraction: float) -> NDArray[np.int8]:
    """The index in `SPLITS` of each of N images, from their `unit_hash` (N,): what `split_by_hash` does."""
    train, val, test = range(len(SPLITS))
    bounds = [hashes < val_fraction, hashes < 2 * val_fraction]
    splits = np.select(bounds, [val, test], default=train).astype(np.int8)
    if val_fraction > 0 and len(splits) >= len(SPLITS):
        for empty in np.flatnonzero(np.bincount(splits, minlength=len(SPLITS)) == 0).tolist():
            largest = np.bincount(splits, minlength=len(SPLITS)).argmax()
            members = np.flatnonzero(splits == largest)
            splits[members[hashes[members].argmin()]] = empty
    return splits


def unit_hash(image_id: ImageId) -> float:
    """A number in [0, 1), a function of the id alone."""
    digest = hashlib.sha256(str(image_id).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
