"""A folder with one .npz or .npy file per image: `cocobu_att/391895.npz`, and for its boxes `cocobu_box/391895.npy`."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from captioner.data.features.precomputed.region_features import RegionFeatures, from_array, from_bytes
from captioner.errors import DataError

SUFFIXES = (".npz", ".npy")
_ATT, _BOX = "_att", "_box"  # folders of regions end in the first, those of their boxes in the second


class FeatureFolder:
    """Files named after the images; folders in it are searched, and their names are part of the key."""

    def __init__(self, path: Path) -> None:
        self.path = path
        boxes = path.with_name(f"{path.name.removesuffix(_ATT)}{_BOX}") if path.name.endswith(_ATT) else None
        self._boxes = boxes if boxes is not None and boxes.is_dir() else None

    def __str__(self) -> str:
        return str(self.path)

    @cached_property
    def _files(self) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for folder, _, names in os.walk(self.path):
            for name in sorted(names):
                file = Path(folder, name)
                if file.suffix.lower() in SUFFIXES and not name.startswith("."):
                    key = file.relative_to(self.path).with_suffix("").as_posix()
                    if key in found:
                        raise DataError(f"{self.path} has {found[key].name} and {name}: expected one file per image.")
                    found[key] = file
        return found

    def keys(self) -> Collection[str]:
        """See FeatureStore."""
        return self._files.keys()

    def close(self) -> None:
        """Nothing stays open."""

    def state(self, key: str) -> str:
        """See FeatureStore."""
        status = self._files[key].stat()
        return f"{status.st_size} {status.st_mtime_ns}"

    def read(self, key: str) -> RegionFeatures:
        """See FeatureStore."""
        file = self._files[key]
        try:
            content = file.read_bytes()
        except OSError as error:
            raise DataError(f"{file} cannot be read: {error.strerror}.") from error
        found = from_bytes(content, str(file))
        box_file = None if self._boxes is None else self._boxes / f"{key}.npy"
        if box_file is None or found.boxes is not None or not box_file.is_file():
            return found
        try:
            boxes = np.load(box_file, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"{box_file} cannot be read: {error}.") from error
        return replace(found, boxes=from_array(found.features, str(box_file), boxes).boxes)
