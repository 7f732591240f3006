"""Features of a frozen encoder, computed once and then read from disk.

Without this cache every epoch would run the encoder again, which costs many times what the decoder costs. `storage`
defines the files, `fill` and `locks` let several processes fill one folder. This module plans what is missing for a
data set (`plan_cache`), computes it (`fill_cache`) and reads it (`FeatureCache`).
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from captioner.config import CacheConfig, DataConfig, TransformConfig
from captioner.data.collection import collection_paused
from captioner.data.dataset import CaptionDataset, ImagePath
from captioner.data.features.disk_space import check_disk_space
from captioner.data.features.file_hashes import FileHashes
from captioner.data.features.fill import BATCH, FeatureRows, Producer, fill
from captioner.data.features.storage import (
    ADVICE,
    FeatureShardFolder,
    feature_cache_root,
    file_hash_folder,
    open_feature_shards,
)
from captioner.data.images.loader import check_bad_images, load_image_batches
from captioner.data.images.pixels import TALL_FIRST
from captioner.data.images.transforms import FULL_VIEW, View
from captioner.errors import DataError
from captioner.nn.encoders.encoder import Encoder, FrozenPart
from captioner.nn.types import ImageFeatures
from captioner.progress_bar import Progress
from captioner.schema import to_plain

TIMED_BATCHES = 4  # for the estimate of the encoder's speed
FLOAT16_MAX = 65504
FLIPPED = View(flipped=True)
_MISSING = -1


@dataclass
class FeatureCache:
    """Features of a data set's images, by their index in the data set. `bad`: index → why an image has no features."""

    shards: list[np.ndarray]  # each (rows, P, D), memory-mapped
    rows: np.ndarray  # (images of the data set, 2) int32: shard and row of each; _MISSING where there are no features
    flipped_rows: np.ndarray  # those of the horizontally flipped images, if requested
    with_grid: bool
    bad: dict[int, str] = field(default_factory=dict)
    vector_is_mean: bool = True  # otherwise the first region of a row is the vector
    content: str = ""  # a digest of all image files, in the order of the data set

    def get(self, indices: Sequence[int], flipped: Collection[int] = ()) -> ImageFeatures:
        """float32 features of the images at `indices`: vector (B, D), and grid (B, P, D) or None.

        flipped: the indices for which the features of the horizontally flipped image are returned.
        """
        _, regions, feature_dim = self.shards[0].shape
        stacked = np.empty((len(indices), regions, feature_dim), dtype=np.float16)
        for i, index in enumerate(indices):
            rows = self.flipped_rows if index in flipped else self.rows
            shard, row = rows[index].tolist()
            if shard == _MISSING:
                raise KeyError(f"image {index} has no features: {self.bad.get(index)}")
            stacked[i] = self.shards[shard][row]
        rows_of_all = torch.from_numpy(stacked).float()
        vector = rows_of_all.mean(dim=1) if self.vector_is_mean else rows_of_all[:, 0]
        grid = rows_of_all if self.vector_is_mean else rows_of_all[:, 1:]
        return ImageFeatures(vector, grid if self.with_grid else None)


class RowSource(NamedTuple):
    """The image, and the part of it, that the features of a row belong to."""

    path: ImagePath
    view: View


@dataclass(frozen=True)
class CachePlan:
    """What the cache has of a data set and what is missing."""

    dataset: CaptionDataset
    shards: FeatureShardFolder
    grids: FeatureShardFolder  # grids of the same encoder and transform; vectors are their means
    digests: dict[int, str]  # index in the data set → hash of the image file
    sources: dict[str, RowSource]  # key → the first image with this key
    bad: dict[int, str]  # index → why its file cannot be read
    missing: list[str]  # keys without features
    from_grids: list[str]  # the missing keys whose vectors can be computed from stored grids, without the encoder
    flipped: bool  # are features of horizontally flipped images included?

    @property
    def with_grid(self) -> bool:
        """True if grids are stored, False if only their means are."""
        return self.shards is self.grids

    @property
    def bytes_missing(self) -> int:
        """The disk space that the missing features will take."""
        return self.shards.row_bytes * len(self.missing)

    @property
    def to_encode(self) -> list[str]:
        """The missing keys whose images must be encoded."""
        from_grids = set(self.from_grids)
        return [key for key in self.missing if key not in from_grids]


def cached_features(
    dataset: CaptionDataset,
    encoder: Encoder | FrozenPart,
    *,
    with_grid: bool,
    cache: CacheConfig,
    data: DataConfig,
    device: torch.device,
    flipped: bool = False,
) -> FeatureCache:
    """Features of all images of `dataset`, read from disk; missing ones are computed now and stored.

    with_grid: store the grid (P·D·2 bytes per image), or only its mean, the vector (D·2 bytes).
    flipped: also the features of the horizontally flipped images.
    Raises DataError if the disk is too small or a shard is damaged, and ImageError for an image that cannot be read
    (unless `data.on_bad_image=skip`).
    """
    plan = plan_cache(dataset, encoder, with_grid=with_grid, cache=cache, data=data, flipped=flipped)
    bad = plan.bad | fill_cache(plan, encoder, data, device)
    rows = {key: plan.shards.index[key] for key in plan.sources if key in plan.shards.index}
    if not rows:
        raise DataError(f"No image of {dataset.name}'s {dataset.split} split can be read: {next(iter(bad.values()))}")
    positions = {name: position for position, name in enumerate(sorted({name for name, _ in rows.values()}))}

    def rows_of(view: View) -> np.ndarray:
        found = np.full((len(dataset), 2), _MISSING, np.int32)
        for index, digest in plan.digests.items():
            if (key := row_key(digest, view)) in rows:
                found[index] = positions[rows[key][0]], rows[key][1]
        return found

    shards = [plan.shards.open(name) for name in positions]
    flipped_rows = rows_of(FLIPPED) if flipped else np.empty((0, 2), np.int32)
    content = hashlib.blake2b(digest_size=16)
    for index, file_hash in plan.digests.items():
        content.update(f"{index} {file_hash}\n".encode())
    return FeatureCache(
        shards, rows_of(FULL_VIEW), flipped_rows, with_grid, bad, encoder.vector_is_mean, content.hexdigest()
    )


def row_key(digest: str, view: View) -> str:
    """The key under which a row is stored: the hash of the image file, marked if the image was flipped."""
    return f"{digest}-mirrored" if view.flipped else digest


def plan_cache(
    dataset: CaptionDataset,
    encoder: Encoder | FrozenPart,
    *,
    with_grid: bool,
    cache: CacheConfig,
    data: DataConfig,
    flipped: bool = False,
) -> CachePlan:
    """Find out which features are missing. Hashes every image file that is new or has changed, decodes none.

    The arguments and the errors are those of `cached_features`.
    """
    shards, grids = open_cache(encoder, with_grid, cache)
    digests, bad = image_digests(dataset.paths, file_hash_folder(cache.directory))
    check_bad_images(bad, data)
    shards.refresh()
    sources: dict[str, RowSource] = {}
    for view in (FULL_VIEW, FLIPPED) if flipped else (FULL_VIEW,):
        for index, digest in digests.items():
            sources.setdefault(row_key(digest, view), RowSource(dataset.images[index].path, view))
    missing = [key for key in sources if key not in shards.index]
    if missing and not with_grid:
        grids.refresh()
    return CachePlan(
        dataset=dataset,
        shards=shards,
        grids=grids,
        digests=digests,
        sources=sources,
        bad=bad,
        missing=missing,
        from_grids=[] if with_grid else [key for key in missing if key in grids.index],
        flipped=flipped,
    )


def fill_cache(
    plan: CachePlan, encoder: Encoder | FrozenPart, data: DataConfig, device: torch.device
) -> dict[int, str]:
    """Compute and store the missing features of `plan`.

    Returns index → reason, for images that cannot be decoded. Raises DataError if the disk is too small, ImageError
    for an image that cannot be decoded (unless `data.on_bad_image=skip`).
    """
    if not plan.missing:
        return {}
    check_cache_disk_space(plan.shards.path, len(plan.missing), plan.bytes_missing)
    title = f"features of {plan.dataset.name} {plan.dataset.split} ({plan.bytes_missing / 1e6:.0f} MB, stored)"
    with Progress(len(plan.missing), title, keep=True) as progress:
        fill(plan.shards, plan.from_grids, _from_grids(plan.grids, encoder.vector_is_mean), progress.update)
        encode = _from_images(plan.sources, encoder, plan.with_grid, data, device)
        bad = fill(plan.shards, plan.to_encode, encode, progress.update)
    if isinstance(encoder, Encoder):
        encoder.discard_fused_copy()  # a training reads features from now on, and needs the memory
    return {
        index: _reason(bad[key], plan.dataset.images[index].path, plan.sources[key].path)
        for index, key in plan.digests.items()
        if key in bad
    }


def _reason(reason: str, path: ImagePath, decoded: ImagePath) -> str:
    """`reason` is about the file `decoded`; names `path` too if it is a copy of it."""
    return reason if path == decoded else f"{path} is a copy of {decoded}: {reason}"


def check_cache_disk_space(folder: Path, images: int, needed: int) -> None:
    """DataError unless the disk of `folder` has the `needed` bytes free for the features of so many `images`."""
    check_disk_space(folder, f"The features of {images} images", needed, ADVICE)


def encoding_speed(
    plan: CachePlan, encoder: Encoder | FrozenPart, data: DataConfig, device: torch.device
) -> float | None:
    """Images per second of decoding and encoding, measured on a few missing images. Their features are discarded.

    The first batch is not timed, because worker processes start in it. None if too few images are missing to measure.
    """
    keys = plan.to_encode[: BATCH * (TIMED_BATCHES + 1)]
    batches = [keys[start : start + BATCH] for start in range(0, len(keys), BATCH)]
    if len(batches) <= TIMED_BATCHES:
        return None
    produce = _from_images(plan.sources, encoder, plan.with_grid, data, device)
    ends = [time.perf_counter() for _ in produce(iter(batches))]
    return len(keys[BATCH:]) / (ends[-1] - ends[0])


def open_cache(
    encoder: Encoder | FrozenPart, with_grid: bool, cache: CacheConfig
) -> tuple[FeatureShardFolder, FeatureShardFolder]:
    """(folder of this encoder, transform and kind, which is created; folder of grids, which may not exist).

    With `with_grid` the two are the same.
    """
    about = {
        "encoder": encoder.name,
        "weights": weights_digest(encoder),
        "transform": _described(encoder.transform),
        "feature_dim": encoder.feature_dim,
    }
    root = feature_cache_root(cache.directory)
    rows, columns = encoder.grid_size
    stored_rows = rows * columns + (not encoder.vector_is_mean)  # a vector of its own is stored before the regions
    grids = open_feature_shards(root, {**about, "kind": "grid"}, (stored_rows, encoder.feature_dim), make=with_grid)
    if with_grid:
        return grids, grids
    return open_feature_shards(root, {**about, "kind": "vector"}, (1, encoder.feature_dim)), grids


def _described(transform: TransformConfig) -> dict[str, Any]:
    """The preprocessing, for the key of the cache. A setting that came later is named only where it is used."""
    described = to_plain(transform)
    if not TALL_FIRST:
        described["tall_first"] = False  # caches of Pillow 13 have no such key
    if transform.stretch == "none":
        del described["stretch"]
    return described


def weights_digest(encoder: nn.Module) -> str:
    """A hash of the names and values of all parameters and buffers of the encoder, or of a whole model."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(encoder.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@collection_paused()
def image_digests(paths: Sequence[ImagePath], stored: Path | None = None) -> tuple[dict[int, str], dict[int, str]]:
    """(index → hash of the image file, index → why the file cannot be read).

    stored: the folder in which the hashes of files are kept for the next time; None: nowhere.
    """
    digests, bad, hashes = {}, {}, FileHashes(stored)
    no_terminal = not sys.stderr.isatty()
    bar = tqdm(paths, desc="reading images", unit="image", delay=3, leave=False, disable=no_terminal)
    for index, path in enumerate(bar):
        try:
            digests[index] = hashes.of(path) if isinstance(path, Path) else path.content_hash()
        except OSError as error:
            bad[index] = f"{path} cannot be read: {error.strerror}."
    hashes.save()
    return digests, bad


def _from_images(
    sources: Mapping[str, RowSource],
    encoder: Encoder | FrozenPart,
    with_grid: bool,
    data: DataConfig,
    device: torch.device,
) -> Producer:
    """A producer that decodes and encodes the images."""
    keys = list(sources)
    positions = {key: position for position, key in enumerate(keys)}
    paths, views = [source.path for source in sources.values()], [source.view for source in sources.values()]

    def produce(batches: Iterator[list[str]]) -> Iterator[FeatureRows]:
        encoder.eval()
        indices = ([positions[key] for key in batch] for batch in batches)
        for loaded in load_image_batches(paths, indices, encoder.transform, data, views.__getitem__):
            yield FeatureRows(
                [keys[index] for index in loaded.indices],
                encode_rows(loaded.images.to(device), encoder, with_grid),
                {keys[index]: reason for index, reason in loaded.bad.items()},
            )

    return produce


def _from_grids(grids: FeatureShardFolder, vector_is_mean: bool) -> Producer:
    """A producer that computes vectors from stored grids."""
    opened: dict[str, np.ndarray] = {}

    def produce(batches: Iterator[list[str]]) -> Iterator[FeatureRows]:
        for keys in batches:
            rows = [grids.index[key] for key in keys]
            opened.update({shard: grids.open(shard) for shard, _ in rows if shard not in opened})
            stored = np.stack([opened[shard][row] for shard, row in rows])
            yield FeatureRows(keys, mean_rows(stored) if vector_is_mean else stored[:, :1], {})

    return produce


def encode_rows(images: Tensor, encoder: Encoder | FrozenPart, with_grid: bool) -> np.ndarray:
    """Images (n, 3, S, S) → the features that are stored: the grid (n, P, D) or the vector (n, 1, D), float16.

    A vector that is not the mean of the grid is stored before it: (n, 1 + P, D).
    """
    if not len(images):
        return np.empty((0, 1, encoder.feature_dim), dtype=np.float16)
    with torch.inference_mode():
        features = encoder(images)
        rows = features.grid
        if not encoder.vector_is_mean:
            vector = features.vector.unsqueeze(1)
            rows = torch.cat([vector, rows], dim=1) if with_grid else vector
        stored: np.ndarray = rows.clamp(-FLOAT16_MAX, FLOAT16_MAX).half().cpu().numpy()
    return stored if with_grid or not encoder.vector_is_mean else mean_rows(stored)


def mean_rows(grids: np.ndarray) -> np.ndarray:
    """(n, P, D) float16 → (n, 1, D) float16: the mean of the rounded grid.

    Vectors computed from images and vectors computed from stored grids are therefore the same.
    """
    means: np.ndarray = grids.mean(axis=1, dtype=np.float32, keepdims=True).astype(np.float16)
    return means
