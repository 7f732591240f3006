"""The names of splits, and splits made by a hash for data sets that have none."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable

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
    hashes = {image_id: _unit_hash(image_id) for image_id in image_ids}
    splits = {
        image_id: "val" if value < val_fraction else "test" if value < 2 * val_fraction else "train"
        for image_id, value in hashes.items()
    }
    if val_fraction > 0 and len(splits) >= len(SPLITS):
        for empty in [split for split in SPLITS if split not in splits.values()]:
            counts = Counter(splits.values())
            largest = max(SPLITS, key=lambda split: counts[split])
            members = [image_id for image_id, split in splits.items() if split == largest]
            splits[min(members, key=hashes.__getitem__)] = empty
    return splits


def _unit_hash(image_id: ImageId) -> float:
    """A number in [0, 1), a function of the id alone."""
    digest = hashlib.sha256(str(image_id).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
