"""`data=shards`: the tar archives of a split as one data set, with a few bytes per pair in memory.

Splits are groups of archives, or with `data.val_fraction` groups of pairs, chosen by a hash of their ids.
"""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from itertools import accumulate, chain
from typing import overload

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from captioner.config import ShardsConfig
from captioner.data.dataset import CaptionDataset, CaptionedImage, ImageId
from captioner.data.datasets.annotation_files import join_names
from captioner.data.datasets.splits import SPLITS, assign_splits, unit_hash
from captioner.data.datasets.tar_shards.patterns import (
    check_shards_in_one_split,
    shard_files,
    unmatched_archives,
)
from captioner.data.datasets.tar_shards.shard_index import PairText, ShardIndex, build_index, read_index
from captioner.data.datasets.tar_shards.tar_archive import Archive
from captioner.errors import DataError

REQUESTS = 16  # to a server at once, which are short


def available_splits(config: ShardsConfig) -> list[str]:
    """The splits with a pattern in the settings, or with archives in `data.root`. Opens no archive.

    DataError if there are archives, but none belongs to a split.
    """
    splits = [split for split in SPLITS if shard_files(config, split)]
    if not splits:
        others = unmatched_archives(config)
        if others:
            raise DataError(
                f"No archive in {config.root} is named train*.tar or lies in train/: it has {join_names(others)}. Set "
                "data.train=… and data.val=…, such as \"data.train='{00000..00009}.tar'\", or "
                "data.val_fraction=0.1 to split the images by a hash."
            )
    return splits


def split_advice(config: ShardsConfig, split: str) -> str:
    """What to do where this split is missing."""
    hashed = "" if split == "train" else ", or data.val_fraction=0.1 to split the images by a hash"
    return f"name its archives {split}*.tar, put them into a folder {split}/, or set data.{split}=PATTERN{hashed}"


def read_split(config: ShardsConfig, split: str) -> CaptionDataset:
    """One split, in the order of its archives and their pairs. Archives without an index are indexed first."""
    files = shard_files(config, split)
    check_shards_in_one_split(config)
    shards = _read_indexes(files, config.num_workers)
    incomplete = [f"{shard.archive.name}:{key}" for shard in shards for key in shard.without_image]
    notices = []
    if incomplete:
        problem = f"{len(incomplete):,} captions of {split} have no image in their shard ({join_names(incomplete)})."
        if config.on_bad_image == "error":
            raise DataError(f"{problem} Create the shards again, or set data.on_bad_image=skip to leave these out.")
        notices.append(f"{problem} They are left out.")
    blank = sum(shard.blank for shard in shards)
    if blank:
        notices.append(f"{blank:,} blank captions of {split} are left out.")
    images = ShardImages(shards, range(sum(map(len, shards))))
    if len(shards) > 1 and not images.ids_are_unique():
        notices.append(f"Shards of {split} have keys in common, so image ids are SHARD/KEY.")
        images = ShardImages(shards, images.pairs, ids_with_shard=True)
    if config.val_fraction is not None:
        images = _of_split(images, config, split)
        notices.append(
            f"Images are split by a hash of their ids, {config.val_fraction:.0%} of them for val"
            f"{' and for test' if config.test is None else ''}."
        )
    return CaptionDataset("shards", split, images, tuple(notices))


def _of_split(images: ShardImages, config: ShardsConfig, split: str) -> ShardImages:
    """The images whose ids are in `split` according to their hashes."""
    if split == "test" and config.test is not None:
        return images
    hashes = np.fromiter((unit_hash(image.image_id) for image in images), np.float64, len(images))
    chosen = assign_splits(hashes, config.val_fraction or 0.0)
    if config.test is not None:
        chosen[chosen == SPLITS.index("test")] = SPLITS.index("train")
    pairs = np.flatnonzero(chosen == SPLITS.index(split))
    return ShardImages(images.shards, pairs, ids_with_shard=images.ids_with_shard)


class ShardImages(Sequence[CaptionedImage]):
    """The images of several archives, each created on access. Only the rows of the indexes are in memory.

    pairs: the indices of the pairs, counted over all `shards` in order, and in increasing order.
    ids_with_shard: whether image ids are "SHARD/ID".
    """

    def __init__(
        self, shards: Sequence[ShardIndex], pairs: range | NDArray[np.int64], *, ids_with_shard: bool = False
    ) -> None:
        self.shards = shards
        self.pairs = pairs
        self.ids_with_shard = ids_with_shard
        self._starts = list(accumulate(map(len, shards), initial=0))

    def __len__(self) -> int:
        return len(self.pairs)

    @overload
    def __getitem__(self, index: int) -> CaptionedImage: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[CaptionedImage]: ...

    def __getitem__(self, index: int | slice) -> CaptionedImage | Sequence[CaptionedImage]:
        if isinstance(index, slice):
            if index.step not in (None, 1):
                return tuple(self[i] for i in range(len(self))[index])
            return ShardImages(self.shards, self.pairs[index], ids_with_shard=self.ids_with_shard)
        pair = int(self.pairs[index])
        shard_index = bisect_right(self._starts, pair) - 1
        shard, row = self.shards[shard_index], pair - self._starts[shard_index]
        return self._image(shard, row, shard.text(row))

    def __iter__(self) -> Iterator[CaptionedImage]:
        """All images in order. Reads the texts of each archive in one go."""
        for shard, start in zip(self.shards, self._starts[:-1], strict=True):
            rows = self._rows_of(start, len(shard))
            if len(rows):
                for row, text in enumerate(shard.texts()):
                    if row in rows:
                        yield self._image(shard, row, text)

    def _rows_of(self, start: int, count: int) -> range | set[int]:
        """Which of the `count` pairs from `start` on are selected, counted from `start`."""
        if isinstance(self.pairs, range):
            return range(max(self.pairs.start - start, 0), min(self.pairs.stop - start, count))
        first, last = np.searchsorted(self.pairs, [start, start + count])
        return set((self.pairs[first:last] - start).tolist())

    def _image(self, shard: ShardIndex, row: int, text: PairText) -> CaptionedImage:
        image = shard.image(row, text.image_name)
        image_id: ImageId = f"{shard.archive.stem}/{text.image_id}" if self.ids_with_shard else text.image_id
        return CaptionedImage(image_id, image, text.captions)

    def ids_are_unique(self) -> bool:
        """Whether all image ids are different. Compares 64-bit hashes, which collide in one of a million data sets."""
        ids = (text.image_id for text in chain.from_iterable(shard.texts() for shard in self.shards))
        hashes = np.fromiter((hash(image_id) for image_id in ids), dtype=np.int64)
        return len(np.unique(hashes)) == len(hashes)


def _read_indexes(files: Sequence[Archive], workers: int) -> list[ShardIndex]:
    with ThreadPoolExecutor(REQUESTS) as requests:  # a server is asked whether each archive has changed
        found = list(requests.map(read_index, files))
    missing = [path for path, index in zip(files, found, strict=True) if index is None]
    bar = tqdm(total=len(missing), desc="indexing shards, once", unit="shard", disable=not sys.stderr.isatty())
    with bar:
        if workers > 1 and len(missing) > 1:
            with ProcessPoolExecutor(min(workers, len(missing))) as pool:
                for _ in pool.map(build_index, missing):
                    bar.update()
        else:
            for path in missing:
                build_index(path)
                bar.update()
    indexes = []
    for path, index in zip(files, found, strict=True):
        index = index or read_index(path)
        if index is None:
            raise DataError(f"{path} was changed while it was indexed. Try again when it is complete.")
        indexes.append(index)
    return indexes
