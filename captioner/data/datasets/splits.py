"""The names of splits, and a split made by hash where a data set names none."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable

from captioner.data.dataset import ImageId

SPLITS = ("train", "val", "test")
ALIASES = {"dev": "val", "valid": "val", "validation": "val"}


def split_name(name: str) -> str | None:
    """train, val or test for any accepted spelling of it; None for anything else."""
    plain = name.strip().lower()
    plain = ALIASES.get(plain, plain)
    return plain if plain in SPLITS else None


def split_by_hash(image_ids: Iterable[ImageId], val_fraction: float) -> dict[ImageId, str]:
    """A split for every image id: `val_fraction` of them val, as many test, the rest train.

    Each id's SHA-256 decides, so an image stays in its split on every machine and whatever images
    are added later. Only where three images or more leave a split empty (and `val_fraction` is not 0)
    does it take the lowest hash of the largest.
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
    """A number in [0, 1) that depends on nothing but the id."""
    digest = hashlib.sha256(str(image_id).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
