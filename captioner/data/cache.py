"""Features of a frozen encoder, computed once and read from disk ever after.

Without it every epoch of training would run the encoder again, which costs many times what the
decoder does. Layout, under `<cache folder>/features/<key>/`:

    about.json             what the features are of: encoder, its weights' digest, transform, kind
    <shard>.f16            (rows, P, D) float16, read through a memory map
    <shard>.json           its listing: the digest of each row's picture file, and the shard's checksum

The key is a hash of `about.json`'s contents, and a row is found by its picture's bytes: other
weights, another transform or another picture never meet the wrong features. A shard counts once its
listing is there, which is written last and renamed into place; so a kill leaves nothing half believed,
an interrupted fill is carried on, and processes may fill side by side. Every shard that is used is
compared with its checksum when it is opened: CRC-32 takes a small part of the time that reading the
pictures for their digests takes, and leaves the shard in the system's cache, from which it is read next.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import sys
import uuid
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from captioner.config import CacheConfig, DataConfig
from captioner.data.batches import sequential_batches
from captioner.data.dataset import CaptionDataset
from captioner.data.loading import load_pictures, refuse_bad_pictures
from captioner.data.locations import cache_directory
from captioner.errors import DataError
from captioner.files import write_atomically
from captioner.nn.encoder import Encoder
from captioner.nn.state import ImageFeatures

FORMAT_VERSION = 2
SHARD_ROWS = 256
ENCODE_BATCH = 32
ADVICE = "name another folder with cache.directory=…, or turn the cache off with cache.enabled=false."


@dataclass
class CachedFeatures:
    """Features of one data set's pictures by their index in it. `bad` gives index → why there are none."""

    shards: list[np.ndarray]  # each (rows, P, D), memory-mapped
    places: dict[int, tuple[int, int]]  # index in the data set → (shard, row)
    with_grid: bool
    bad: dict[int, str] = field(default_factory=dict)

    def get(self, indices: Sequence[int]) -> ImageFeatures:
        """float32 features of the pictures at `indices`: vector (B, D), and grid (B, P, D) where there is one."""
        _, cells, feature_dim = self.shards[0].shape
        rows = np.empty((len(indices), cells, feature_dim), dtype=np.float16)
        for i, index in enumerate(indices):
            if index not in self.places:
                raise KeyError(f"picture {index} has no features: {self.bad.get(index)}")
            shard, row = self.places[index]
            rows[i] = self.shards[shard][row]
        grid = torch.from_numpy(rows).float()
        return ImageFeatures(grid.mean(dim=1), grid if self.with_grid else None)


def cached_features(
    dataset: CaptionDataset,
    encoder: Encoder,
    *,
    with_grid: bool,
    cache: CacheConfig,
    data: DataConfig,
    device: torch.device,
) -> CachedFeatures:
    """Features of all pictures of `dataset`: those on disk, and the missing ones computed now and kept.

    `with_grid`: the whole grid (P·D·2 bytes a picture), or only the vector, its mean (D·2 bytes).
    Raises DataError where the disk cannot hold them or those on it are damaged, PictureError for a
    picture that cannot be read (unless `data.on_bad_image=skip`).
    """
    folder = open_cache(encoder, with_grid, cache)
    row_shape = _row_shape(encoder, with_grid)
    digests, bad = picture_digests([image.path for image in dataset])
    refuse_bad_pictures(bad, data)
    known = _read_index(folder, row_shape)
    missing = [index for index, digest in digests.items() if digest not in known]
    if missing:
        bad |= _fill(folder, dataset, missing, digests, encoder, with_grid, data, device)
        known = _read_index(folder, row_shape)
    found = {index: known[digest] for index, digest in digests.items() if digest in known}
    if not found:
        raise DataError(f"No picture of {dataset.name}'s {dataset.split} split can be read: {next(iter(bad.values()))}")
    names = sorted({name for name, _ in found.values()})
    numbers = {name: number for number, name in enumerate(names)}
    places = {index: (numbers[name], row) for index, (name, row) in found.items()}
    return CachedFeatures([_open_shard(folder, name, row_shape) for name in names], places, with_grid, bad)


def open_cache(encoder: Encoder, with_grid: bool, cache: CacheConfig) -> Path:
    """The folder for this encoder, transform and kind; made, with its `about.json`, where it is not there."""
    about = {
        "format_version": FORMAT_VERSION,
        "encoder": encoder.name,
        "weights": weights_digest(encoder),
        "transform": json.loads(json.dumps(asdict(encoder.transform))),
        "kind": "grid" if with_grid else "vector",
        "feature_dim": encoder.feature_dim,
    }
    text = json.dumps(about, indent=2, sort_keys=True)
    root = Path(cache.directory).expanduser() if cache.directory else cache_directory()
    folder = root / "features" / f"{encoder.name}-{about['kind']}-{hashlib.blake2b(text.encode()).hexdigest()[:12]}"
    about_file = folder / "about.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not about_file.exists():
            write_atomically(about_file, text.encode())
        found = about_file.read_bytes()
    except OSError as error:
        raise DataError(f"The feature cache {folder} cannot be made ({error.strerror}): {ADVICE}") from error
    if found != text.encode():
        raise DataError(f"{about_file} was altered: nobody knows what these features are of. Delete {folder}.")
    return folder


def _row_shape(encoder: Encoder, with_grid: bool) -> tuple[int, int]:
    """(P, D) of what is kept of a picture; the vector is kept as a grid of one cell."""
    rows, columns = encoder.grid_size
    return (rows * columns if with_grid else 1, encoder.feature_dim)


def weights_digest(encoder: Encoder) -> str:
    """A hash of all parameters and buffers of the encoder, by name."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(encoder.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def picture_digests(paths: Sequence[Path]) -> tuple[dict[int, str], dict[int, str]]:
    """Index → a hash of the picture file's bytes, and index → why not, for files that cannot be read."""
    digests, bad = {}, {}
    for index, path in enumerate(paths):
        try:
            digests[index] = hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
        except OSError as error:
            bad[index] = f"{path} cannot be read: {error.strerror}."
    return digests, bad


def _read_index(folder: Path, row_shape: tuple[int, int]) -> dict[str, tuple[str, int]]:
    """Picture digest → (shard, row), over all shards; DataError for one that is damaged."""
    index: dict[str, tuple[str, int]] = {}
    for path in sorted(folder.glob("shard-*.json")):
        for row, digest in enumerate(_read_listing(path, row_shape).pictures):
            index.setdefault(digest, (path.stem, row))
    return index


class _Listing(NamedTuple):
    pictures: list[str]  # the digest of each row's picture file
    crc32: int  # see _checksum


def _read_listing(path: Path, row_shape: tuple[int, int]) -> _Listing:
    try:
        listing = json.loads(path.read_text(encoding="utf-8"))
        pictures, crc32 = [str(digest) for digest in listing["pictures"]], int(listing["crc32"])
        if listing["cache"] != path.parent.name or listing["shape"] != [len(pictures), *row_shape]:
            raise ValueError("it does not belong here")
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise _damaged(path, f"{path} cannot be used ({error})") from error
    return _Listing(pictures, crc32)


def _open_shard(folder: Path, name: str, row_shape: tuple[int, int]) -> np.ndarray:
    """(rows, P, D), read from disk when they are looked at; DataError unless they are what was written."""
    listing_file, path = folder / f"{name}.json", folder / f"{name}.f16"
    listing = _read_listing(listing_file, row_shape)
    shape = (len(listing.pictures), *row_shape)
    if not path.is_file() or path.stat().st_size != 2 * math.prod(shape):
        raise _damaged(listing_file, f"{path} is missing or cut short")
    features = np.memmap(path, dtype=np.float16, mode="r", shape=shape)
    if _checksum(features.data, listing.pictures) != listing.crc32:
        raise _damaged(listing_file, f"{path} does not have the checksum in its listing")
    return features


def _checksum(features: bytes | memoryview, pictures: list[str]) -> int:
    """Of the rows and of whose they are."""
    return zlib.crc32(features, zlib.crc32("\n".join(pictures).encode()))


def _damaged(listing_file: Path, problem: str) -> DataError:
    return DataError(f"The feature cache is damaged: {problem}. Delete {listing_file}, and it is computed anew.")


def _fill(
    folder: Path,
    dataset: CaptionDataset,
    missing: list[int],
    digests: Mapping[int, str],
    encoder: Encoder,
    with_grid: bool,
    data: DataConfig,
    device: torch.device,
) -> dict[int, str]:
    """Compute and write the features of the `missing` pictures; returns index → why, for those that cannot be read."""
    needed, free = 2 * math.prod(_row_shape(encoder, with_grid)) * len(missing), shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"The features of {len(missing)} pictures need {needed / 1e9:.1f} GB, but {folder} has {free / 1e9:.1f} GB "
            f"free: {ADVICE}"
        )
    bad: dict[int, str] = {}
    batch: list[np.ndarray] = []
    owners: list[str] = []
    title = f"features of {dataset.name} {dataset.split} ({needed / 1e6:.0f} MB, kept)"
    batches = [[missing[i] for i in indices] for indices in sequential_batches(len(missing), ENCODE_BATCH)]
    loading = load_pictures([image.path for image in dataset], batches, encoder.transform, data)
    encoder.eval()
    with (
        tqdm(total=len(missing), desc=title, unit="picture", disable=not sys.stderr.isatty()) as bar,
        torch.inference_mode(),
    ):
        for loaded in loading:
            bad |= loaded.bad
            if loaded.indices:
                features: ImageFeatures = encoder(loaded.pictures.to(device))
                kept = features.grid if with_grid else features.vector.unsqueeze(1)
                assert kept is not None
                batch.append(kept.clamp(-65504, 65504).half().cpu().numpy())  # the range of float16
                owners += [digests[i] for i in loaded.indices]
            if len(owners) >= SHARD_ROWS:
                _write_shard(folder, np.concatenate(batch), owners)
                batch, owners = [], []
            bar.update(len(loaded.indices) + len(loaded.bad))
        if owners:
            _write_shard(folder, np.concatenate(batch), owners)
    return bad


def _write_shard(folder: Path, features: np.ndarray, pictures: list[str]) -> None:
    """Data first, listing last: the listing is what makes a shard count."""
    name = f"shard-{uuid.uuid4().hex[:12]}"
    raw = features.tobytes()
    listing = {
        "cache": folder.name,  # in the folder of other weights, say, it does not count
        "shape": list(features.shape),
        "pictures": pictures,
        "crc32": _checksum(raw, pictures),
    }
    try:
        write_atomically(folder / f"{name}.f16", raw)
        write_atomically(folder / f"{name}.json", json.dumps(listing).encode())
    except OSError as error:
        raise DataError(f"The feature cache {folder} cannot be written ({error.strerror}): {ADVICE}") from error
