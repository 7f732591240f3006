"""An HDF5 file of features (`pip install 'captioner[features]'`), in the layouts of the field.

391895, 391896, …                     a data set (N, D) per image, or a group with features and boxes
391895_features, 391895_boxes, …      as the Meshed-Memory Transformer has them
features (M, N, D), image_ids (M,)    all images in one array, and optionally boxes (M, N, 4)
"""

from __future__ import annotations

import os
from collections.abc import Collection
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from captioner.data.features.precomputed.region_features import (
    BOX_NAMES,
    COUNT_NAMES,
    FEATURE_NAMES,
    RegionFeatures,
    from_array,
    from_arrays,
)
from captioner.errors import DataError

_ID_NAMES = ("image_ids", "image_id", "ids", "id", "img_ids", "names", "keys")
_SUFFIX = "_features"


class FeatureHdf5:
    """Opened once in each process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._opened: tuple[int, Any] | None = None  # (process, file)

    def __str__(self) -> str:
        return str(self.path)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_opened": None}

    @property
    def _file(self) -> Any:
        if self._opened is None or self._opened[0] != os.getpid():
            try:
                import h5py
            except ImportError as error:
                raise DataError(
                    f"{self.path} needs a package that is not installed: pip install 'captioner[features]'."
                ) from error
            try:
                self._opened = (os.getpid(), h5py.File(self.path, "r"))
            except OSError as error:
                raise DataError(f"{self.path} is not an HDF5 file that can be read ({error}).") from error
        return self._opened[1]

    def close(self) -> None:
        """See FeatureStore."""
        if self._opened is not None and self._opened[0] == os.getpid():
            self._opened[1].close()
        self._opened = None

    @cached_property
    def _rows(self) -> dict[str, int] | None:
        """Key → row, if all images are in one array; None otherwise."""
        names = set(self._file)
        features = next((name for name in FEATURE_NAMES if name in names), None)
        if features is None or self._file[features].ndim < 2:
            return None
        ids = next((name for name in _ID_NAMES if name in names), None)
        if ids is None:
            raise DataError(
                f"{self.path} holds {features}, one array for all images, but not whose they are: add an array "
                f"image_ids with one id per row."
            )
        listed = [id.decode() if isinstance(id, bytes) else str(id) for id in self._file[ids][...].reshape(-1).tolist()]
        if len(listed) != len(self._file[features]) or len(set(listed)) != len(listed):
            raise DataError(
                f"{self.path}: {ids} has {len(listed):,} ids, {len(set(listed)):,} of them different, for "
                f"{len(self._file[features]):,} rows of {features}. Expected one different id per row."
            )
        return {key: row for row, key in enumerate(listed)}

    @cached_property
    def _keys(self) -> dict[str, str]:
        """Key → the name in the file."""
        if self._rows is not None:
            return {key: key for key in self._rows}
        named = {name.removesuffix(_SUFFIX): name for name in self._file if name.endswith(_SUFFIX)}
        return named or {name: name for name in self._file}

    def keys(self) -> Collection[str]:
        """See FeatureStore."""
        return self._keys.keys()

    def state(self, key: str) -> str:
        """See FeatureStore."""
        status = self.path.stat()
        return f"{status.st_size} {status.st_mtime_ns}"

    def read(self, key: str) -> RegionFeatures:
        """See FeatureStore."""
        where, file = f"{self.path}:{key}", self._file
        try:
            if self._rows is not None:
                row = self._rows[key]
                names = [name for name in (*FEATURE_NAMES, *BOX_NAMES, *COUNT_NAMES) if name in file]
                return from_arrays({name: np.asarray(file[name][row]) for name in names}, where)
            found = file[self._keys[key]]
            if hasattr(found, "keys"):  # a group
                return from_arrays({name: array[...] for name, array in found.items()}, where)
            boxes = file.get(f"{key}_boxes") if self._keys[key] != key else None
            return from_array(found[...], where, None if boxes is None else boxes[...])
        except (OSError, KeyError) as error:
            raise DataError(f"{where} cannot be read ({error}). Is the file complete?") from error
