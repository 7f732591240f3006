"""Features of a frozen encoder, computed once and read from disk ever after.

Without it every epoch of training would run the encoder again, which costs many times what the
decoder does. Layout, under `<cache folder>/features/<key>/`:

    about.json             what the features are of: encoder, its weights' digest, transform, kind
    <shard>.f16            (rows, P, D) float16, read through a memory map
    <shard>.json           the digest of each row's picture file, and the shard's checksum

The key is a hash of `about.json`'s contents, and a row is found by its picture's bytes: other
weights, another transform or another picture never meet the wrong features. A shard counts once its
.json is there, which is written last and renamed into place; so a kill leaves nothing half believed,
an interrupted fill is carried on, and processes may fill side by side.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from captioner.config import CacheConfig, DataConfig
from captioner.data.batches import sequential_batches
from captioner.data.dataset import CaptionDataset
from captioner.data.loading import load_pictures
from captioner.data.locations import cache_directory
from captioner.errors import DataError
from captioner.files import write_atomically
from captioner.nn.encoder import Encoder
from captioner.nn.state import ImageFeatures

FORMAT_VERSION = 1
SHARD_ROWS = 256
ENCODE_BATCH = 32


@dataclass
class CachedFeatures:
    """Features of one data set's pictures by their index in it. `bad` gives index → why there are none."""

    shards: list[np.ndarray]  # each (rows, P, D), memory-mapped
    places: list[tuple[int, int] | None]  # index in the data set → (shard, row)
    with_grid: bool
    bad: dict[int, str] = field(default_factory=dict)

    def get(self, indices: Sequence[int]) -> ImageFeatures:
        """float32 features of the pictures at `indices`: vector (B, D), and grid (B, P, D) where there is one."""
        _, cells, feature_dim = self.shards[0].shape
        rows = np.empty((len(indices), cells, feature_dim), dtype=np.float16)
        for i, index in enumerate(indices):
            place = self.places[index]
            if place is None:
                raise KeyError(f"picture {index} has no features: {self.bad.get(index)}")
            rows[i] = self.shards[place[0]][place[1]]
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
    Raises DataError when the disk cannot hold them, PictureError for a picture that cannot be read
    (unless `data.on_bad_image=skip`).
    """
    folder = open_cache(encoder, with_grid, cache)
    digests = picture_digests([image.path for image in dataset])
    known = _read_index(folder)
    missing = [i for i, digest in enumerate(digests) if digest is not None and digest not in known]
    unreadable = {i: f"{dataset.images[i].path} cannot be read." for i, digest in enumerate(digests) if digest is None}
    if unreadable and data.on_bad_image == "error":
        raise DataError(next(iter(unreadable.values())))
    bad = dict(unreadable)
    if missing:
        bad |= _fill(folder, dataset, missing, digests, encoder, with_grid, data, device)
        known = _read_index(folder)
    names = sorted({known[digest][0] for digest in digests if digest in known})
    shards = [_open_shard(folder, name) for name in names]
    numbers = {name: number for number, name in enumerate(names)}
    places = [
        (numbers[known[digest][0]], known[digest][1]) if digest is not None and digest in known else None
        for digest in digests
    ]
    if not shards:
        raise DataError(f"No picture of {dataset.name}'s {dataset.split} split can be read: {next(iter(bad.values()))}")
    return CachedFeatures(shards, places, with_grid, bad)


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
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "about.json").exists():
            write_atomically(folder / "about.json", text.encode())
    except OSError as error:
        raise DataError(
            f"The feature cache {folder} cannot be made ({error.strerror}): "
            "name another folder with cache.directory=…, or turn the cache off with cache.enabled=false."
        ) from error
    return folder


def weights_digest(encoder: Encoder) -> str:
    """A hash of all parameters and buffers of the encoder, by name."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(encoder.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def picture_digests(paths: Sequence[Path]) -> list[str | None]:
    """A hash of each picture file's bytes; None for a file that cannot be read."""

    def digest(path: Path) -> str | None:
        try:
            return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
        except OSError:
            return None  # the caller names the file

    return [digest(path) for path in paths]


def _read_index(folder: Path) -> dict[str, tuple[str, int]]:
    """Picture digest → (shard, row), over all whole shards. A shard of the wrong size is named and ignored."""
    index: dict[str, tuple[str, int]] = {}
    for listing in sorted(folder.glob("shard-*.json")):
        shard = _read_listing(listing)
        data = listing.with_suffix(".f16")
        if not data.is_file() or data.stat().st_size != int(np.prod(shard["shape"])) * 2:
            raise DataError(
                f"The feature cache is damaged: {data} is missing or cut short. Delete {listing} to redo it."
            )
        for row, digest in enumerate(shard["pictures"]):
            index.setdefault(digest, (listing.stem, row))
    return index


def _read_listing(path: Path) -> dict[str, Any]:
    try:
        shard = json.loads(path.read_text())
        if len(shard["shape"]) == 3 and len(shard["pictures"]) == shard["shape"][0]:
            return dict(shard)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"The feature cache is damaged: {path} cannot be read ({error}). Delete it to redo it."
        ) from error
    raise DataError(f"The feature cache is damaged: {path} contradicts itself. Delete it to redo it.")


def _open_shard(folder: Path, name: str) -> np.ndarray:
    shape = tuple(_read_listing(folder / f"{name}.json")["shape"])
    return np.memmap(folder / f"{name}.f16", dtype=np.float16, mode="r", shape=shape)


def _fill(
    folder: Path,
    dataset: CaptionDataset,
    missing: list[int],
    digests: Sequence[str | None],
    encoder: Encoder,
    with_grid: bool,
    data: DataConfig,
    device: torch.device,
) -> dict[int, str]:
    """Compute and write the features of the `missing` pictures; returns index → why, for those that cannot be read."""
    rows, columns = encoder.grid_size
    row_bytes = 2 * encoder.feature_dim * (rows * columns if with_grid else 1)
    needed, free = row_bytes * len(missing), shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"The features of {len(missing)} pictures need {needed / 1e9:.1f} GB, but {folder} has {free / 1e9:.1f} GB "
            "free: name another folder with cache.directory=…, or turn the cache off with cache.enabled=false."
        )
    bad: dict[int, str] = {}
    batch: list[np.ndarray] = []
    owners: list[str] = []
    title = f"features of {dataset.name} {dataset.split} ({needed / 1e6:.0f} MB, kept)"
    with tqdm(total=len(missing), desc=title, unit="picture", disable=not sys.stderr.isatty()) as bar:
        for indices, features, bad_here in encode_pictures(dataset, missing, encoder, data, device):
            bad |= bad_here
            kept = features.grid if with_grid else features.vector.unsqueeze(1)
            assert kept is not None
            batch.append(kept.clamp(-65504, 65504).half().cpu().numpy())  # the range of float16
            owners += [str(digests[i]) for i in indices]
            if len(owners) >= SHARD_ROWS:
                _write_shard(folder, np.concatenate(batch), owners)
                batch, owners = [], []
            bar.update(len(indices) + len(bad_here))
        if owners:
            _write_shard(folder, np.concatenate(batch), owners)
    return bad


def encode_pictures(
    dataset: CaptionDataset, indices: Sequence[int], encoder: Encoder, data: DataConfig, device: torch.device
) -> Iterator[tuple[list[int], ImageFeatures, dict[int, str]]]:
    """(indices, their features, index → why not), batch by batch, straight from the pictures."""
    paths = [image.path for image in dataset]
    batches = [[indices[i] for i in batch] for batch in sequential_batches(len(indices), ENCODE_BATCH)]
    encoder.eval()
    with torch.inference_mode():
        for loaded in load_pictures(paths, batches, encoder.transform, data):
            if loaded.indices:
                yield loaded.indices, encoder(loaded.pictures.to(device)), loaded.bad
            else:
                empty = torch.empty(0, encoder.feature_dim, device=device)
                rows, columns = encoder.grid_size
                yield [], ImageFeatures(empty, empty.new_empty(0, rows * columns, encoder.feature_dim)), loaded.bad


def _write_shard(folder: Path, features: np.ndarray, pictures: list[str]) -> None:
    """Data first, listing last: the listing is what makes a shard count."""
    name = f"shard-{uuid.uuid4().hex[:12]}"
    raw = features.tobytes()
    listing = {
        "shape": list(features.shape),
        "pictures": pictures,
        "blake2b": hashlib.blake2b(raw, digest_size=16).hexdigest(),
    }
    write_atomically(folder / f"{name}.f16", raw)
    write_atomically(folder / f"{name}.json", json.dumps(listing).encode())
