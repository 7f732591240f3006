"""Opens the folder or file that `data.features` names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from captioner.data.features.precomputed.hdf5 import FeatureHdf5
from captioner.data.features.precomputed.lmdb_file import FeatureLmdb
from captioner.data.features.precomputed.numpy_folder import SUFFIXES, FeatureFolder
from captioner.data.features.precomputed.region_features import FeatureStore
from captioner.data.features.precomputed.tsv import FeatureTsv
from captioner.errors import DataError, near_misses

EXPECTED = (
    "a folder of .npz or .npy files, an .h5 or .hdf5 file, an .lmdb file or folder, or a .tsv of bottom-up attention"
)
_FILES: Mapping[str, Callable[[Path], FeatureStore]] = MappingProxyType(
    {".h5": FeatureHdf5, ".hdf5": FeatureHdf5, ".lmdb": FeatureLmdb, ".mdb": FeatureLmdb, ".tsv": FeatureTsv}
)


def open_store(features: str) -> FeatureStore:
    """The features at `data.features`; DataError if it is none of the known layouts, or empty."""
    path = Path(features).expanduser()
    store: FeatureStore
    if path.is_dir():
        store = FeatureLmdb(path) if (path / "data.mdb").is_file() else FeatureFolder(path)
    elif path.is_file() and path.suffix.lower() in _FILES:
        store = _FILES[path.suffix.lower()](path)
    elif path.is_file():
        raise DataError(f"data.features={features} is a {path.suffix or 'file without a suffix'}: expected {EXPECTED}.")
    else:
        beside = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError(
            f"data.features={features} does not exist.{near_misses(path.name, beside)} Expected {EXPECTED}."
        )
    store.close()  # what an earlier data set has read may have been written again
    if not store.keys():
        what = f"no {' or '.join(SUFFIXES)} file" if isinstance(store, FeatureFolder) else "no image"
        raise DataError(f"data.features={features} holds {what}: expected {EXPECTED}.")
    return store
