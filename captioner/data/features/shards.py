"""How cached features lie on disk: checksummed pieces that are whole or do not count.

Under `<cache folder>/features/<encoder>-<kind>-<key>/`:

    about.json             what the features are of: encoder, its weights' digest, transform, kind
    shard-<id>.f16         (rows, P, D) float16, read through a memory map
    shard-<id>.json        its listing: the key of each row, and the shard's checksum
    shard-<id>.claim       a process is computing this shard (see `claims`)

The folder's key is a hash of `about.json`, and a row's key comes from its image's bytes: other weights,
another transform or another image never meet the wrong features. A shard counts once its listing is
there, which is written last and renamed into place; so a kill leaves nothing half believed. Every shard
that is used is compared with its checksum when it is opened: CRC-32 takes a small part of the time that
reading the images for their digests takes, and leaves the shard in the system's cache, from which it is
read next.
"""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from captioner.data.features.paths import cache_directory
from captioner.errors import DataError
from captioner.files import write_atomically

FORMAT_VERSION = 3
SHARD_ROWS = 256
ADVICE = "name another folder with cache.directory=…, or turn the cache off with cache.enabled=false."


@dataclass
class ShardFolder:
    """The shards of one encoder, transform and kind. `row_shape`: (P, D); a vector is kept as a grid of one cell."""

    path: Path
    row_shape: tuple[int, int]
    index: dict[str, tuple[str, int]] = field(default_factory=dict)  # a row's key → (shard, row); see `refresh`
    _listed: set[str] = field(default_factory=set)

    @property
    def row_bytes(self) -> int:
        """What a row takes on disk."""
        return 2 * math.prod(self.row_shape)

    def refresh(self) -> None:
        """Take shards that have come since into `index`; DataError for a listing that is damaged."""
        for path in sorted(self.path.glob("shard-*.json")):
            if path.stem not in self._listed:
                self._add(path.stem, _read_listing(path, self.row_shape).keys)

    def open(self, name: str) -> np.ndarray:
        """(rows, P, D), read from disk when they are looked at; DataError unless they are what was written."""
        listing_file, path = self.path / f"{name}.json", self.path / f"{name}.f16"
        listing = _read_listing(listing_file, self.row_shape)
        shape = (len(listing.keys), *self.row_shape)
        if not path.is_file() or path.stat().st_size != self.row_bytes * len(listing.keys):
            raise _damaged(listing_file, f"{path} is missing or cut short")
        rows = _mapped(path, shape)
        if _checksum(rows.data, listing.keys) != listing.crc32:
            raise _damaged(listing_file, f"{path} does not have the checksum in its listing")
        return rows

    def write(self, name: str, rows: np.ndarray, keys: list[str]) -> None:
        """Data first, listing last: the listing is what makes a shard count. OSError where it cannot be written."""
        raw = np.ascontiguousarray(rows, dtype=np.float16).tobytes()
        listing = {
            "cache": self.path.name,  # in the folder of other weights, say, it does not count
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


def features_folder(directory: str | None) -> Path:
    """Where the folders of all encoders are. `directory`: `cache.directory`; null is the project's cache folder."""
    root = Path(directory).expanduser() if directory else cache_directory()
    return root / "features"


def open_shard_folder(
    root: Path, about: dict[str, Any], row_shape: tuple[int, int], *, make: bool = True
) -> ShardFolder:
    """The folder under `root` for features of what `about` says; `make`: with its `about.json`, where it is not there.

    `about` needs "encoder" and "kind", which are part of the folder's name. DataError where it cannot be
    made, or holds another `about.json`. What is in it is not looked at before `refresh`.
    """
    text = json.dumps({"format_version": FORMAT_VERSION, **about}, indent=2, sort_keys=True)
    folder = root / f"{about['encoder']}-{about['kind']}-{hashlib.blake2b(text.encode()).hexdigest()[:12]}"
    about_file = folder / "about.json"
    if not make and not about_file.exists():
        return ShardFolder(folder, row_shape)
    try:
        if not about_file.exists():
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(about_file, text.encode())
        found = about_file.read_bytes()
    except OSError as error:
        raise DataError(f"The feature cache {folder} cannot be made ({error.strerror}): {ADVICE}") from error
    if found != text.encode():
        raise DataError(f"{about_file} was altered: nobody knows what these features are of. Delete {folder}.")
    return ShardFolder(folder, row_shape)


def folders_of_other_versions(root: Path) -> list[Path]:
    """The folders under `root` that another version of this program wrote and this one never reads."""
    return [path.parent for path in sorted(root.glob("*/about.json")) if _version(path) != FORMAT_VERSION]


def _version(about_file: Path) -> Any:
    try:
        return json.loads(about_file.read_bytes())["format_version"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def _mapped(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """A float16 file as an array. np.memmap would keep it open, and large data sets have more shards than may be."""
    import torch  # the rest of a filler does without it

    rows: np.ndarray = torch.from_file(str(path), size=math.prod(shape), dtype=torch.float16).numpy().reshape(shape)
    return rows


class _Listing(NamedTuple):
    keys: list[str]  # of each row
    crc32: int  # see _checksum


def _read_listing(path: Path, row_shape: tuple[int, int]) -> _Listing:
    try:
        listing = json.loads(path.read_text(encoding="utf-8"))
        keys, crc32 = [str(key) for key in listing["keys"]], int(listing["crc32"])
        if listing["cache"] != path.parent.name or listing["shape"] != [len(keys), *row_shape]:
            raise ValueError("it does not belong here")
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise _damaged(path, f"{path} cannot be used ({error})") from error
    return _Listing(keys, crc32)


def _checksum(rows: bytes | memoryview, keys: list[str]) -> int:
    """Of the rows and of whose they are."""
    return zlib.crc32(rows, zlib.crc32("\n".join(keys).encode()))


def _damaged(listing_file: Path, problem: str) -> DataError:
    return DataError(f"The feature cache is damaged: {problem}. Delete {listing_file}, and it is computed anew.")
