"""An LMDB of features (`pip install 'captioner[features]'`): image id → the content of an .npz or .npy file."""

from __future__ import annotations

import os
from collections.abc import Collection
from functools import cached_property
from pathlib import Path
from typing import Any

from captioner.data.features.precomputed.region_features import RegionFeatures, from_bytes
from captioner.errors import DataError

_opened: dict[str, Any] = {}  # path → environment: LMDB allows one per file and process


class FeatureLmdb:
    """Opened for reading only. `path`: the file, or the folder that holds data.mdb."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    @property
    def _environment(self) -> Any:
        name = os.path.realpath(self.path)
        if name not in _opened:
            try:
                import lmdb
            except ImportError as error:
                raise DataError(
                    f"{self.path} needs a package that is not installed: pip install 'captioner[features]'."
                ) from error
            try:  # without lock files, so that worker processes may use what they inherit
                _opened[name] = lmdb.open(
                    name, subdir=self.path.is_dir(), readonly=True, lock=False, readahead=False, create=False
                )
            except lmdb.Error as error:
                raise DataError(f"{self.path} is not an LMDB that can be read ({error}).") from error
        return _opened[name]

    def close(self) -> None:
        """See FeatureStore."""
        environment = _opened.pop(os.path.realpath(self.path), None)
        if environment is not None:
            environment.close()

    @cached_property
    def _keys(self) -> dict[str, bytes]:
        with self._environment.begin() as transaction:
            return {
                bytes(key).decode(errors="backslashreplace"): bytes(key)
                for key in transaction.cursor().iternext(values=False)
            }

    def keys(self) -> Collection[str]:
        """See FeatureStore."""
        return self._keys.keys()

    def state(self, key: str) -> str:
        """See FeatureStore."""
        status = (self.path / "data.mdb" if self.path.is_dir() else self.path).stat()
        return f"{status.st_size} {status.st_mtime_ns}"

    def read(self, key: str) -> RegionFeatures:
        """See FeatureStore."""
        with self._environment.begin() as transaction:
            content = transaction.get(self._keys[key])
        return from_bytes(bytes(content), f"{self.path}:{key}")
