"""The files of the feature cache.

In `<cache folder>/features/<encoder>-<kind>-<key>/`:

    about.json             what the features were computed with: encoder, hash of its weights, transform, kind
    shard-<id>.f16         features, (rows, P, D) float16, read through a memory map
    shard-<id>.json        the shard's listing: the key of each row, and a checksum
    shard-<id>.claim       lock file of a process that is computing this shard (see `locks`)

The folder's key is a hash of `about.json`, and a row's key is a hash of the image file. So features of other weights,
another transform or another image are never used by mistake. A shard is used only if it has a listing. The listing is
written last and atomically, so a killed process leaves no incomplete shard that could be read. Each shard is compared
with its checksum when it is opened. CRC-32 takes little time compared with hashing the images, and reading the shard
for it brings the shard into the system's page cache.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from captioner.errors import DataError
from captioner.files import cache_directory, write_atomically

FORMAT_VERSION = 3
SHARD_ROWS = 256
ADVICE = "name another folder with cache.directory=…, or turn the cache off with cache.enabled=false."


@dataclass
class FeatureShardFolder:
    """The feature shards of one encoder, transform and kind. `row_shape` is (P, D); a vector is stored with P = 1."""

    path: Path
    row_shape: tuple[int, int]
    index: dict[str, tuple[str, int]] = field(default_factory=dict)  # key → (shard, row); filled by `refresh`
    _listed: set[str] = field(default_factory=set)

    @property
    def row_bytes(self) -> int:
        """Size of one row on disk, in bytes."""
        return 2 * math.prod(self.row_shape)

    def refresh(self) -> None:
        """Add shards written since the last call to `index`; DataError for a damaged listing."""
        try:
            names = os.listdir(self.path)  # noqa: PTH208 - names, because a large cache has thousands of shards
        except FileNotFoundError:
            return
        listings = (name for name in names if name.startswith("shard-") and name.endswith(".json"))
        for name in sorted(name for name in listings if name.removesuffix(".json") not in self._listed):
            self._add(name.removesuffix(".json"), _read_listing(self.path / name, self.row_shape).keys)

    def open(self, name: str) -> np.ndarray:
        """A shard's features, (rows, P, D) float16, memory-mapped; DataError if its checksum or size is wrong."""
        listing_file, path = self.path / f"{name}.json", self.path / f"{name}.f16"
        listing = _read_listing(listing_file, self.row_shape)
        shape = (len(listing.keys), *self.row_shape)
        if not path.is_file() or path.stat().st_size != self.row_bytes * len(listing.keys):
            raise _damaged(listing_file, f"{path} is missing or cut short")
        rows = _memory_map(path, shape)
        if _checksum(rows.data, listing.keys) != listing.crc32:
            raise _damaged(listing_file, f"{path} does not have the checksum in its listing")
        return rows

    def write(self, name: str, rows: np.ndarray, keys: list[str]) -> None:
        """Write a shard: data first, listing last, because a shard without a listing is ignored. May raise OSError."""
        raw = np.ascontiguousarray(rows, dtype=np.float16).tobytes()
        listing = {
            "cache": self.path.name,  # so that a shard copied from the folder of other weights is recognized
            "shape": [len(keys), *self.row_shape],
            "keys": keys,
            "crc32": _checksum(raw, keys),
        }
        write_atomically(self.path / f"{name}.f16", raw)
        write_atomically(self.path / f"{name}.json", json.dumps(listing).encode())
        self._add(name, keys)

    def _add(self, name: str, keys: list[str]) -> None:
        for row, key in enumerate(keys):
            self.index.setdefault(key, (name, row))
        self._listed.add(name)


def feature_cache_root(directory: str | None) -> Path:
    """The folder that holds one folder per encoder and kind. directory: `cache.directory`; None: the cache folder."""
    return _cache_root(directory) / "features"


def file_hash_folder(directory: str | None) -> Path:
    """The folder that holds the hashes of image files (see `file_hashes`); directory: as above."""
    return _cache_root(directory) / "hashes"


def _cache_root(directory: str | None) -> Path:
    return Path(directory).expanduser() if directory else cache_directory()


def open_feature_shards(
    root: Path, about: dict[str, Any], row_shape: tuple[int, int], *, make: bool = True
) -> FeatureShardFolder:
    """The folder under `root` for features computed as `about` describes. Call `refresh` to read its listings.

    about: what determines the features; "encoder" and "kind" are part of the folder's name. make: create the folder
    and its `about.json` if they do not exist. DataError if that fails, or if `about.json` has other content.
    """
    text = json.dumps({"format_version": FORMAT_VERSION, **about}, indent=2, sort_keys=True)
    folder = root / f"{about['encoder']}-{about['kind']}-{hashlib.blake2b(text.encode()).hexdigest()[:12]}"
    about_file = folder / "about.json"
    if not make and not about_file.exists():
        return FeatureShardFolder(folder, row_shape)
    try:
        if not about_file.exists():
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(about_file, text.encode())
        found = about_file.read_bytes()
    except OSError as error:
        raise DataError(f"The feature cache {folder} cannot be created ({error.strerror}): {ADVICE}") from error
    if found != text.encode():
        raise DataError(f"{about_file} was changed: it is unknown what these features belong to. Delete {folder}.")
    return FeatureShardFolder(folder, row_shape)


def folders_of_other_versions(root: Path) -> list[Path]:
    """The folders under `root` written by another version of this program, which this version does not read."""
    return [path.parent for path in sorted(root.glob("*/about.json")) if _version(path) != FORMAT_VERSION]


def _version(about_file: Path) -> Any:
    try:
        return json.loads(about_file.read_bytes())["format_version"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def _memory_map(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """A float16 file as an array. np.memmap would keep it open, and large data sets have too many."""
    import torch  # here, so that filling a cache does not need it

    rows: np.ndarray = torch.from_file(str(path), size=math.prod(shape), dtype=torch.float16).numpy().reshape(shape)
    return rows


class _Listing(NamedTuple):
    keys: list[str]  # one per row
    crc32: int  # see `_checksum`


def _read_listing(path: Path, row_shape: tuple[int, int]) -> _Listing:
    try:
        listing = json.loads(path.read_text(encoding="utf-8"))
        keys, crc32 = [str(key) for key in listing["keys"]], int(listing["crc32"])
        if listing["cache"] != path.parent.name or listing["shape"] != [len(keys), *row_shape]:
            raise ValueError("it belongs to another cache")
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise _damaged(path, f"{path} cannot be used ({error})") from error
    return _Listing(keys, crc32)


def _checksum(rows: bytes | memoryview, keys: list[str]) -> int:
    """CRC-32 of the keys and the rows."""
    return zlib.crc32(rows, zlib.crc32("\n".join(keys).encode()))


def _damaged(listing_file: Path, problem: str) -> DataError:
    return DataError(f"The feature cache is damaged: {problem}. Delete {listing_file} to compute it again.")
