"""Reads all features of a data set once, before hours of training depend on them."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from captioner.data.dataset import CaptionDataset
from captioner.data.features.precomputed.match import Match
from captioner.data.features.precomputed.region_features import FeatureStore
from captioner.errors import DataError
from captioner.files import cache_directory, write_atomically

FORMAT_VERSION = 1
SHOWN = 3  # faults in a message


@dataclass(frozen=True)
class FeatureSummary:
    """What the check found. feature_dim: D; fewest, most: regions of an image; grid: (rows, columns), equal for all."""

    images: int
    feature_dim: int
    fewest: int
    most: int
    with_boxes: int
    grid: tuple[int, int] | None

    def __str__(self) -> str:
        regions = f"{self.fewest}" if self.fewest == self.most else f"{self.fewest} to {self.most}"
        boxes = {0: "without boxes", self.images: "with boxes"}.get(self.with_boxes, f"{self.with_boxes:,} with boxes")
        shape = "" if self.grid is None else f" ({self.grid[0]}×{self.grid[1]})"
        return f"{self.images:,} images, {regions} regions{shape} × {self.feature_dim} values, {boxes}"


def check_features(dataset: CaptionDataset, store: FeatureStore, match: Match) -> FeatureSummary:
    """Read the features of every image and check shape, type, finite numbers and boxes.

    All faults are counted and a few named in one DataError. The result is stored in the cache folder, so files that
    have not changed since are not read again.
    """
    digest = hashlib.blake2b(f"{FORMAT_VERSION} {store}".encode(), digest_size=16)
    for key in match.keys.values():
        digest.update(f"{key} {store.state(key)}\n".encode())
    path = cache_directory() / "feature_indexes" / f"checked-{digest.hexdigest()}.json"
    try:
        return _from_json(json.loads(path.read_bytes()))
    except (OSError, ValueError, LookupError, TypeError):
        pass  # not checked yet
    summary = _read_all(dataset, store, match.keys)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(vars(summary)).encode())
    except OSError as error:
        raise DataError(
            f"{path.parent} cannot be written ({error.strerror}): set the environment variable CAPTIONER_CACHE to "
            "another folder."
        ) from error
    return summary


def _read_all(dataset: CaptionDataset, store: FeatureStore, keys: Mapping[int, str]) -> FeatureSummary:
    faults: list[str] = []
    found: list[tuple[int, bool, tuple[int, int] | None]] = []
    dim: int | None = None
    title = f"checking features of {dataset.name} {dataset.split}, once"
    for key in tqdm(keys.values(), desc=title, unit="image", disable=not sys.stderr.isatty()):
        try:
            features = store.read(key)
        except DataError as error:
            faults.append(str(error))
            continue
        dim = features.features.shape[1] if dim is None else dim
        if features.features.shape[1] != dim:
            faults.append(f"{store}: {key} has {features.features.shape[1]} values per region, but others have {dim}.")
        found.append((len(features.features), features.boxes is not None, features.grid))
    if faults:
        more = f" {len(faults) - SHOWN:,} more images have faults." if len(faults) > SHOWN else ""
        raise DataError(
            f"The features of {len(faults):,} of {len(keys):,} images of {dataset.split} cannot be used. "
            f"{' '.join(faults[:SHOWN])}{more} Compute them again."
        )
    counts, grids = [count for count, _, _ in found], {grid for _, _, grid in found}
    grid = grids.pop() if len(grids) == 1 else None
    return FeatureSummary(len(found), dim or 0, min(counts), max(counts), sum(boxes for _, boxes, _ in found), grid)


def _from_json(values: dict[str, Any]) -> FeatureSummary:
    grid = values["grid"]
    return FeatureSummary(**{**values, "grid": None if grid is None else (int(grid[0]), int(grid[1]))})
