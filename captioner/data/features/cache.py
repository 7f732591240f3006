"""Features of a frozen encoder, computed once and read from disk ever after.

Without it every epoch of training would run the encoder again, which costs many times what the decoder does.
`shards` says how they lie on disk, `filling` and `claims` how several processes fill one folder; here is what of
a data set is in it (`plan_cache`), how the rest is computed (`fill_cache`), and how it is read (`FeatureCache`).
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from captioner.config import CacheConfig, DataConfig
from captioner.data.dataset import CaptionDataset, ImagePath
from captioner.data.features.fill import BATCH, Producer, Rows, fill
from captioner.data.features.paths import check_disk_space
from captioner.data.features.shards import ADVICE, ShardFolder, features_folder, open_shard_folder
from captioner.data.images.loader import check_bad_images, load_image_batches
from captioner.data.images.transforms import WHOLE, View
from captioner.errors import DataError
from captioner.nn.encoders.encoder import Encoder, FrozenPart
from captioner.nn.types import ImageFeatures
from captioner.schema import to_plain

MEASURED = 4  # batches that an estimate of time is measured on
FLOAT16_MAX = 65504
MIRRORED = View(mirrored=True)


@dataclass
class FeatureCache:
    """Features of one data set's images by their index in it. `bad` gives index → why there are none."""

    shards: list[np.ndarray]  # each (rows, P, D), memory-mapped
    places: dict[int, tuple[int, int]]  # index in the data set → (shard, row)
    mirrored_places: dict[int, tuple[int, int]]  # the same of the mirrored images, where they were asked for
    with_grid: bool
    bad: dict[int, str] = field(default_factory=dict)

    def get(self, indices: Sequence[int], mirrored: Collection[int] = ()) -> ImageFeatures:
        """float32 features of the images at `indices`: vector (B, D), and grid (B, P, D) where there is one.

        `mirrored`: indices of those whose mirrored image is meant.
        """
        _, cells, feature_dim = self.shards[0].shape
        rows = np.empty((len(indices), cells, feature_dim), dtype=np.float16)
        for i, index in enumerate(indices):
            places = self.mirrored_places if index in mirrored else self.places
            if index not in places:
                raise KeyError(f"image {index} has no features: {self.bad.get(index)}")
            shard, row = places[index]
            rows[i] = self.shards[shard][row]
        grid = torch.from_numpy(rows).float()
        return ImageFeatures(grid.mean(dim=1), grid if self.with_grid else None)


class Source(NamedTuple):
    """What a row's features are of."""

    path: ImagePath
    view: View


@dataclass(frozen=True)
class CachePlan:
    """What of a data set is in the cache and what is not. `missing`: keys, of which `in_grids` need no encoder."""

    dataset: CaptionDataset
    shards: ShardFolder
    grids: ShardFolder  # of the same encoder and transform: a vector is the mean of a grid
    digests: dict[int, str]  # index in the data set → hash of the image's bytes, which is its row's key
    sources: dict[str, Source]  # key → the first image with these bytes
    bad: dict[int, str]  # index → why, for files that cannot be read
    missing: list[str]
    in_grids: list[str]
    mirrored: bool  # are the mirrored images wanted as well?

    @property
    def with_grid(self) -> bool:
        """Are whole grids kept, or their means?"""
        return self.shards is self.grids

    @property
    def bytes_missing(self) -> int:
        """What the missing rows will take on disk."""
        return self.shards.row_bytes * len(self.missing)

    @property
    def to_encode(self) -> list[str]:
        """The missing keys whose images have to go through the encoder."""
        there = set(self.in_grids)
        return [key for key in self.missing if key not in there]


def cached_features(
    dataset: CaptionDataset,
    encoder: Encoder | FrozenPart,
    *,
    with_grid: bool,
    cache: CacheConfig,
    data: DataConfig,
    device: torch.device,
    mirrored: bool = False,
) -> FeatureCache:
    """Features of all images of `dataset`: those on disk, and the missing ones computed now and kept.

    `with_grid`: the whole grid (P·D·2 bytes an image), or only the vector, its mean (D·2 bytes).
    `mirrored`: those of the mirrored images as well.
    Raises DataError where the disk cannot hold them or those on it are damaged, ImageError for an
    image that cannot be read (unless `data.on_bad_image=skip`).
    """
    plan = plan_cache(dataset, encoder, with_grid=with_grid, cache=cache, data=data, mirrored=mirrored)
    bad = plan.bad | fill_cache(plan, encoder, data, device)
    rows = {key: plan.shards.index[key] for key in plan.sources if key in plan.shards.index}
    if not rows:
        raise DataError(f"No image of {dataset.name}'s {dataset.split} split can be read: {next(iter(bad.values()))}")
    numbers = {name: number for number, name in enumerate(sorted({name for name, _ in rows.values()}))}

    def places(view: View) -> dict[int, tuple[int, int]]:
        keys = ((index, row_key(digest, view)) for index, digest in plan.digests.items())
        return {index: (numbers[rows[key][0]], rows[key][1]) for index, key in keys if key in rows}

    shards = [plan.shards.open(name) for name in numbers]
    return FeatureCache(shards, places(WHOLE), places(MIRRORED) if mirrored else {}, with_grid, bad)


def row_key(digest: str, view: View) -> str:
    """How a row is found: by its image's bytes, and whether it was mirrored."""
    return f"{digest}-mirrored" if view.mirrored else digest


def plan_cache(
    dataset: CaptionDataset,
    encoder: Encoder | FrozenPart,
    *,
    with_grid: bool,
    cache: CacheConfig,
    data: DataConfig,
    mirrored: bool = False,
) -> CachePlan:
    """Look what is there. Reads every image's bytes, decodes none. Raises as `cached_features`."""
    shards, grids = open_cache(encoder, with_grid, cache)
    digests, bad = image_digests(dataset.paths)
    check_bad_images(bad, data)
    shards.refresh()
    sources: dict[str, Source] = {}
    for view in (WHOLE, MIRRORED) if mirrored else (WHOLE,):
        for index, digest in digests.items():
            sources.setdefault(row_key(digest, view), Source(dataset.images[index].path, view))
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
        in_grids=[] if with_grid else [key for key in missing if key in grids.index],
        mirrored=mirrored,
    )


def fill_cache(
    plan: CachePlan, encoder: Encoder | FrozenPart, data: DataConfig, device: torch.device
) -> dict[int, str]:
    """Compute and keep what is missing; returns index → why, for images that cannot be decoded. Raises as above."""
    if not plan.missing:
        return {}
    check_cache_disk_space(plan.shards.path, len(plan.missing), plan.bytes_missing)
    title = f"features of {plan.dataset.name} {plan.dataset.split} ({plan.bytes_missing / 1e6:.0f} MB, kept)"
    with tqdm(total=len(plan.missing), desc=title, unit="image", disable=not sys.stderr.isatty()) as bar:
        fill(plan.shards, plan.in_grids, _from_grids(plan.grids), bar.update)
        encode = _from_images(plan.sources, encoder, plan.with_grid, data, device)
        bad = fill(plan.shards, plan.to_encode, encode, bar.update)
    return {
        index: _why(bad[key], plan.dataset.images[index].path, plan.sources[key].path)
        for index, key in plan.digests.items()
        if key in bad
    }


def _why(why: str, path: ImagePath, decoded: ImagePath) -> str:
    return why if path == decoded else f"{path} is a copy of {decoded}: {why}"


def check_cache_disk_space(folder: Path, images: int, needed: int) -> None:
    """DataError where `folder`'s disk does not have the `needed` bytes free."""
    check_disk_space(folder, f"The features of {images} images", needed, ADVICE)


def encoding_speed(
    plan: CachePlan, encoder: Encoder | FrozenPart, data: DataConfig, device: torch.device
) -> float | None:
    """Images a second through decoding and encoding, measured on some of those that are missing, and thrown away.

    The first ones, in which worker processes start and memory is first touched, do not count. None where too few
    are missing to tell.
    """
    keys = plan.to_encode[: BATCH * (MEASURED + 1)]
    batches = [keys[start : start + BATCH] for start in range(0, len(keys), BATCH)]
    if len(batches) <= MEASURED:
        return None
    produce = _from_images(plan.sources, encoder, plan.with_grid, data, device)
    ends = [time.perf_counter() for _ in produce(iter(batches))]
    return len(keys[BATCH:]) / (ends[-1] - ends[0])


def open_cache(encoder: Encoder | FrozenPart, with_grid: bool, cache: CacheConfig) -> tuple[ShardFolder, ShardFolder]:
    """The folder for this encoder, transform and kind, made where it is not there; and the one for grids, which is
    the same with `with_grid`, and is not made without it.
    """
    about = {
        "encoder": encoder.name,
        "weights": weights_digest(encoder),
        "transform": to_plain(encoder.transform),
        "feature_dim": encoder.feature_dim,
    }
    root = features_folder(cache.directory)
    rows, columns = encoder.grid_size
    grids = open_shard_folder(root, {**about, "kind": "grid"}, (rows * columns, encoder.feature_dim), make=with_grid)
    if with_grid:
        return grids, grids
    return open_shard_folder(root, {**about, "kind": "vector"}, (1, encoder.feature_dim)), grids


def weights_digest(encoder: Encoder | FrozenPart) -> str:
    """A hash of all parameters and buffers of the encoder, by name."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(encoder.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def image_digests(paths: Sequence[ImagePath]) -> tuple[dict[int, str], dict[int, str]]:
    """Index → a hash of the image file's bytes, and index → why not, for files that cannot be read."""
    digests, bad = {}, {}
    quiet = not sys.stderr.isatty()
    bar = tqdm(paths, desc="reading images", unit="image", delay=3, leave=False, disable=quiet)
    for index, path in enumerate(bar):
        try:
            digests[index] = hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
        except OSError as error:
            bad[index] = f"{path} cannot be read: {error.strerror}."
    return digests, bad


def _from_images(
    sources: Mapping[str, Source],
    encoder: Encoder | FrozenPart,
    with_grid: bool,
    data: DataConfig,
    device: torch.device,
) -> Producer:
    """Decodes and encodes."""
    keys = list(sources)
    numbers = {key: number for number, key in enumerate(keys)}
    paths, views = [source.path for source in sources.values()], [source.view for source in sources.values()]

    def produce(batches: Iterator[list[str]]) -> Iterator[Rows]:
        encoder.eval()
        numbered = ([numbers[key] for key in batch] for batch in batches)
        for loaded in load_image_batches(paths, numbered, encoder.transform, data, views.__getitem__):
            yield Rows(
                [keys[number] for number in loaded.indices],
                encode_rows(loaded.images.to(device), encoder, with_grid),
                {keys[number]: why for number, why in loaded.bad.items()},
            )

    return produce


def _from_grids(grids: ShardFolder) -> Producer:
    """Reads grids that are there, and takes their means."""
    opened: dict[str, np.ndarray] = {}

    def produce(batches: Iterator[list[str]]) -> Iterator[Rows]:
        for keys in batches:
            places = [grids.index[key] for key in keys]
            opened.update({shard: grids.open(shard) for shard, _ in places if shard not in opened})
            yield Rows(keys, mean_rows(np.stack([opened[shard][row] for shard, row in places])), {})

    return produce


def encode_rows(images: Tensor, encoder: Encoder | FrozenPart, with_grid: bool) -> np.ndarray:
    """(n, 3, S, S) → what is kept of them: (n, P, D) float16, or (n, 1, D), the mean."""
    if not len(images):
        return np.empty((0, 1, encoder.feature_dim), dtype=np.float16)
    with torch.inference_mode():
        grid = encoder(images).grid.clamp(-FLOAT16_MAX, FLOAT16_MAX).half().cpu().numpy()
    return grid if with_grid else mean_rows(grid)


def mean_rows(grids: np.ndarray) -> np.ndarray:
    """(n, P, D) float16 → (n, 1, D) float16. Of the rounded grid: a vector is the same wherever it comes from."""
    means: np.ndarray = grids.mean(axis=1, dtype=np.float32, keepdims=True).astype(np.float16)
    return means
