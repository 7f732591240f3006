"""`data=shards`: the tar archives of a split as one data set, with a few bytes per pair in memory."""

from __future__ import annotations

import os
import re
import sys
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from glob import glob
from itertools import accumulate, chain
from pathlib import Path
from typing import overload

import numpy as np
from tqdm import tqdm

from captioner.config import ShardsConfig
from captioner.data.dataset import CaptionDataset, CaptionedImage, ImageId
from captioner.data.datasets.annotation_files import data_root, join_names, path_exists
from captioner.data.datasets.splits import ALIASES, SPLITS
from captioner.data.datasets.tar_shards.shard_index import PairText, ShardIndex, build_index, read_index
from captioner.data.datasets.tar_shards.tar_image import ImageInTar
from captioner.errors import DataError

EXPECTED = "the shards, such as train-00000.tar and val-00000.tar, or train/00000.tar and val/00000.tar"
MAX_SHARDS = 1_000_000  # in one pattern
_RANGE = re.compile(r"(\d{1,12})\.\.(\d{1,12})")
_BRACES = re.compile(r"\{([^{}]*)\}")


def available_splits(config: ShardsConfig) -> list[str]:
    """The splits with a pattern in the settings, or with archives in `data.root`. Opens no archive."""
    return [split for split in SPLITS if shard_files(config, split)]


def read_split(config: ShardsConfig, split: str) -> CaptionDataset:
    """One split, in the order of its archives and their pairs. Archives without an index are indexed first."""
    files = shard_files(config, split)
    _check_shards_in_one_split(config)
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
    return CaptionDataset("shards", split, images, tuple(notices))


class ShardImages(Sequence[CaptionedImage]):
    """The images of several archives, each created on access. Only the rows of the indexes are in memory.

    pairs: the indices of the pairs, counted over all `shards` in order.
    ids_with_shard: whether image ids are "SHARD/ID".
    """

    def __init__(self, shards: Sequence[ShardIndex], pairs: range, *, ids_with_shard: bool = False) -> None:
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
            selected = self.pairs[index]
            if selected.step != 1:
                return tuple(self[i] for i in range(len(self))[index])
            return ShardImages(self.shards, selected, ids_with_shard=self.ids_with_shard)
        pair = self.pairs[index]
        shard_index = bisect_right(self._starts, pair) - 1
        shard, row = self.shards[shard_index], pair - self._starts[shard_index]
        return self._image(shard, row, shard.text(row))

    def __iter__(self) -> Iterator[CaptionedImage]:
        """All images in order. Reads the texts of each archive in one go."""
        for shard, start in zip(self.shards, self._starts[:-1], strict=True):
            if start < self.pairs.stop and self.pairs.start < start + len(shard):
                for row, text in enumerate(shard.texts()):
                    if start + row in self.pairs:
                        yield self._image(shard, row, text)

    def _image(self, shard: ShardIndex, row: int, text: PairText) -> CaptionedImage:
        offset, size, header_crc, _ = shard.rows[row].tolist()
        image = ImageInTar(shard.archive, text.check_image_name, offset, size, header_crc)
        image_id: ImageId = f"{shard.archive.stem}/{text.image_id}" if self.ids_with_shard else text.image_id
        return CaptionedImage(image_id, image, text.captions)

    def ids_are_unique(self) -> bool:
        """Whether all image ids are different. Compares 64-bit hashes, which collide in one of a million data sets."""
        ids = (text.image_id for text in chain.from_iterable(shard.texts() for shard in self.shards))
        hashes = np.fromiter((hash(image_id) for image_id in ids), dtype=np.int64)
        return len(np.unique(hashes)) == len(hashes)


def shard_files(config: ShardsConfig, split: str) -> list[Path]:
    """The archives of a split, in order: those of its pattern, or those found by its name; [] if there are none.

    DataError for a pattern without matches, or for archives that do not exist.
    """
    pattern = getattr(config, split)
    if pattern is None:
        root = data_root(config, EXPECTED)
        names = [split, *(alias for alias, name in ALIASES.items() if name == split)]
        folders = (sorted((root / name).glob("*.tar")) for name in names)
        beside = (sorted(path for path in root.glob("*.tar") if _is_named(path, name)) for name in names)
        return next((files for files in chain(folders, beside) if files), [])
    root = data_root(config, EXPECTED) if config.root else Path()
    files: list[Path] = []
    missing: list[str] = []
    for name in expand_braces(pattern):
        path = Path(os.path.expanduser(name))  # noqa: PTH111 - Path.expanduser fails for a user that does not exist
        is_pattern = re.search(r"[*?\[]", name) is not None
        matches = sorted(glob(str(path), root_dir=root)) if is_pattern else [path]  # noqa: PTH207 - may be absolute
        for match in map(root.joinpath, matches):
            files += sorted(match.glob("*.tar")) if match.is_dir() else [match]
            missing += [] if path_exists(match) else [name]
    if missing:
        raise DataError(f"data.{split}={pattern}: {len(missing):,} of its shards do not exist ({join_names(missing)}).")
    if not files:
        raise DataError(f"data.{split}={pattern} matches no .tar file in {root}. Expected {EXPECTED}.")
    return list(dict.fromkeys(files))


def _is_named(path: Path, split: str) -> bool:
    """True for train.tar, train-00000.tar, train_0.tar and train0.tar, but not for trainer.tar."""
    return re.fullmatch(rf"{split}(?![a-z]).*", path.stem, re.IGNORECASE) is not None


def expand_braces(pattern: str) -> list[str]:
    """All names that a pattern such as `a{1,2}b` or `a{08..10}b` expands to, in order, as in a shell."""
    match = _BRACES.search(pattern)
    if match is None:
        return [pattern]
    before, after = pattern[: match.start()], pattern[match.end() :]
    numbers = _RANGE.fullmatch(match[1])
    if numbers is None:
        choices: Sequence[str] = match[1].split(",")
    else:
        first, last = int(numbers[1]), int(numbers[2])
        if abs(last - first) >= MAX_SHARDS:
            raise DataError(f"{pattern} expands to more than {MAX_SHARDS:,} shards.")
        width = max(map(len, numbers.groups())) if any(n.startswith("0") for n in numbers.groups()) else 0
        step = 1 if last >= first else -1
        choices = [f"{number:0{width}}" for number in range(first, last + step, step)]
    rest = expand_braces(after)
    if len(choices) * len(rest) > MAX_SHARDS:
        raise DataError(f"{pattern} expands to more than {MAX_SHARDS:,} shards.")
    return [f"{before}{choice}{end}" for choice in choices for end in rest]


def _check_shards_in_one_split(config: ShardsConfig) -> None:
    owners: dict[str, str] = {}
    for split in SPLITS:
        for path in shard_files(config, split):
            owner = owners.setdefault(os.path.abspath(path), split)  # noqa: PTH100 - links are not followed
            if owner != split:
                raise DataError(f"{path} is a shard of {owner} and of {split}. A shard must belong to one split.")


def _read_indexes(files: Sequence[Path], workers: int) -> list[ShardIndex]:
    found = [read_index(path) for path in files]
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
