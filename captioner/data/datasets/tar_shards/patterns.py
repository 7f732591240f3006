"""Which archives belong to a split: patterns with braces and stars, and the names that need no setting."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from glob import glob
from itertools import chain
from pathlib import Path

from captioner.config import ShardsConfig
from captioner.data.datasets.annotation_files import data_root, join_names, path_exists
from captioner.data.datasets.splits import ALIASES, SPLITS
from captioner.data.datasets.tar_shards.remote import RemoteArchive, is_url
from captioner.data.datasets.tar_shards.tar_archive import Archive, absolute_name
from captioner.errors import DataError

EXPECTED = "the shards, such as train-00000.tar and val-00000.tar, or train/00000.tar and val/00000.tar"
MAX_SHARDS = 1_000_000  # in one pattern
_RANGE = re.compile(r"(\d{1,12})\.\.(\d{1,12})")
_BRACES = re.compile(r"\{([^{}]*)\}")


def shard_files(config: ShardsConfig, split: str) -> list[Archive]:
    """The archives of a split, in order: those of its pattern, or those found by its name; [] if there are none.

    With `data.val_fraction` train and val have the same ones, and test too without a pattern. DataError for a pattern
    without matches, or for archives that do not exist; archives on a server are not looked up.
    """
    pattern, key = getattr(config, split), f"data.{split}"
    if config.val_fraction is not None and pattern is None:
        pattern, key = config.train or "*.tar", "data.train"
    has_patterns = any(getattr(config, other) is not None for other in SPLITS)
    if pattern is None and has_patterns and (config.root is None or is_url(config.root)):
        return []
    if pattern is None and config.root is not None and is_url(config.root):
        raise DataError(
            f"data.root={config.root} is on a server: name its archives, such as "
            "\"data.train='train-{00000..00009}.tar'\" and data.val=val-00000.tar."
        )
    if pattern is None:
        root = data_root(config, EXPECTED)
        names = [split, *(alias for alias, name in ALIASES.items() if name == split)]
        folders = (sorted((root / name).glob("*.tar")) for name in names)
        beside = (sorted(path for path in root.glob("*.tar") if _is_named(path, name)) for name in names)
        return list(_finished(next((files for files in chain(folders, beside) if files), []), split))
    if (config.root is not None and is_url(config.root)) or is_url(pattern):
        return list(_remote_files(config, pattern, key))
    return list(_finished(_local_files(config, pattern, key), split))


def begun_name(split: str) -> str:
    """The name of the file that is beside the shards of a split while they are packed, and stays if that is killed."""
    return f".{split}.unfinished"


def _finished(files: list[Path], split: str) -> list[Path]:
    """`files`; DataError where some are of a pack that has not finished, and would be taken for the whole."""
    for folder in dict.fromkeys(file.parent for file in files):
        if (folder / begun_name(split)).exists():
            raise DataError(
                f"{folder} has only a part of the shards of {split}: `captioner data pack` has not finished there. Run "
                f"it again, or remove {folder / begun_name(split)} to use the part."
            )
    return files


def unmatched_archives(config: ShardsConfig) -> list[str]:
    """The names of the archives in `data.root` and in its folders, for the message that no split has any."""
    root = data_root(config, EXPECTED)
    return sorted(path.relative_to(root).as_posix() for path in chain(root.glob("*.tar"), root.glob("*/*.tar")))


def check_shards_in_one_split(config: ShardsConfig) -> None:
    """DataError if two splits have an archive in common, except for those that `data.val_fraction` divides."""
    owners: dict[str, str] = {}
    for split in SPLITS:
        if config.val_fraction is not None and split != "train" and getattr(config, split) is None:
            continue
        for archive in shard_files(config, split):
            owner = owners.setdefault(absolute_name(archive), split)
            if owner != split:
                raise DataError(f"{archive} is a shard of {owner} and of {split}. A shard must belong to one split.")


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


def _local_files(config: ShardsConfig, pattern: str, key: str) -> list[Path]:
    root = data_root(config, EXPECTED) if config.root else Path()
    files: list[Path] = []
    missing: list[str] = []
    for name in expand_braces(pattern):
        path = Path(os.path.expanduser(name))  # noqa: PTH111 - Path.expanduser fails for a user that does not exist
        is_pattern = _has_wildcard(name)
        matches = sorted(glob(str(path), root_dir=root)) if is_pattern else [path]  # noqa: PTH207 - may be absolute
        for match in map(root.joinpath, matches):
            files += sorted(match.glob("*.tar")) if match.is_dir() else [match]
            missing += [] if path_exists(match) else [name]
    if missing:
        raise DataError(f"{key}={pattern}: {len(missing):,} of its shards do not exist ({join_names(missing)}).")
    if not files:
        raise DataError(f"{key}={pattern} matches no .tar file in {root}. Expected {EXPECTED}.")
    return list(dict.fromkeys(files))


def _remote_files(config: ShardsConfig, pattern: str, key: str) -> list[RemoteArchive]:
    """The archives of a pattern of URLs, or of names relative to a URL. They are not looked up."""
    names = expand_braces(pattern)
    unclear = [name for name in names if _has_wildcard(name.partition("?")[0])]
    if unclear:
        raise DataError(
            f"{key}={pattern}: a server's files cannot be listed, so its pattern can hold braces only, such as "
            "train-{00000..00009}.tar."
        )
    urls = [name if is_url(name) else f"{str(config.root).rstrip('/')}/{name}" for name in names]
    return [RemoteArchive(url) for url in dict.fromkeys(urls)]


def _has_wildcard(name: str) -> bool:
    return re.search(r"[*?\[]", name) is not None


def _is_named(path: Path, split: str) -> bool:
    """True for train.tar, train-00000.tar, train_0.tar and train0.tar, but not for trainer.tar."""
    return re.fullmatch(rf"{split}(?![a-z]).*", path.stem, re.IGNORECASE) is not None
