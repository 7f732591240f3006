"""Finds image files by the names that annotation files give them.

Names are looked up in listings of folders, each read once. Two differences are bridged, where one file alone fits: a
name without a suffix (`a2` for `a2.png`), and another Unicode form (NFC for NFD, as macOS writes names).
"""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property, partial
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

from captioner.data.dataset import ImagePath
from captioner.data.datasets.annotation_files import check_image_name, join_names, path_exists
from captioner.data.image_views import views_of
from captioner.data.images.decode import IMAGE_SUFFIXES
from captioner.errors import DataError

SAMPLE = 20  # names by which the folder of the images is chosen
DIAGNOSED = 200  # missing images for which a similar file is looked for; messages show a few


class Found(NamedTuple):
    """The name of a file, relative to its folder, and how it differs from the name that was asked for."""

    name: str
    bridged: Literal["suffix", "Unicode"] | None = None


class FolderListing:
    """The names in one folder, as they are, without suffix, and in Unicode's composed form."""

    def __init__(self, folder: Path) -> None:
        try:
            self.names = frozenset(os.listdir(folder))  # noqa: PTH208 - names, not paths
        except (OSError, ValueError):
            self.names = frozenset()

    @cached_property
    def by_composed(self) -> dict[str, list[str]]:
        """The name in NFC → the names on disk."""
        return _grouped((composed(name), name) for name in self.names)

    @cached_property
    def by_stem(self) -> dict[str, list[str]]:
        """The name in NFC without its suffix → the names on disk of images."""
        images = (name for name in self.names if Path(name).suffix.lower() in IMAGE_SUFFIXES)
        return _grouped((composed(Path(name).stem), name) for name in images)


class ImageFinder:
    """Finds images in the folders of one data set; each folder is listed once."""

    def __init__(self) -> None:
        self._listings: dict[Path, FolderListing] = {}

    def listing(self, folder: Path) -> FolderListing:
        """The names in a folder; none if it does not exist."""
        if folder not in self._listings:
            self._listings[folder] = FolderListing(folder)
        return self._listings[folder]

    def find(self, folder: Path, name: str) -> Found | None:
        """The file `folder`/`name`, or the one file that differs from it as said above; None if there is none."""
        parent, _, leaf = name.rpartition("/")
        listing = self.listing(folder / parent if parent else folder)
        if leaf in listing.names or path_exists(folder / name):
            return Found(name)
        prefix = f"{parent}/" if parent else ""
        same = listing.by_composed.get(composed(leaf), [])
        if len(same) == 1:
            return Found(prefix + same[0], "Unicode")
        if not has_image_suffix(leaf):
            same = listing.by_stem.get(composed(leaf), [])
            if len(same) == 1:
                return Found(prefix + same[0], "suffix")
        return None

    def folder_of(self, names: Iterable[str], usual: Sequence[Path], others: Sequence[Path]) -> Path:
        """The folder of `usual` in which most of the first names are; if none is in any, of `others`.

        The first of several such folders, and of `usual` if no name is found anywhere.
        """
        first = [name for name, _ in zip(names, range(SAMPLE), strict=False)]

        def matches(folder: Path) -> int:
            return sum(self._is_in(folder, name) for name in first)

        best = max(usual, key=matches)
        if others and not matches(best):
            other = max(others, key=matches)
            return other if matches(other) else usual[0]
        return best

    def _is_in(self, folder: Path, name: str) -> bool:
        try:
            return self.find(folder, check_image_name(name, folder, "")) is not None
        except DataError:  # outside of the folder: reported when the folder has been chosen
            return False


def composed(name: str) -> str:
    """The name in Unicode's composed form (NFC)."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def has_image_suffix(name: str) -> bool:
    """Whether the name ends in a suffix of images, such as .jpg."""
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def nearest_files(missing: Sequence[Path], root: Path) -> dict[Path, list[Path]]:
    """Missing image → the files that may be meant, best first: the same name in another case, with another suffix, in
    another Unicode form or, if there is none in its folder, in another subfolder of `root`.

    Reads the names in `root` and its subfolders once.
    """
    by_key: defaultdict[str, list[Path]] = defaultdict(list)
    wanted = {_key(path.name) for path in missing}
    seen: set[str] = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # links may form a circle
            folders.clear()
            continue
        seen.add(real)
        for name in names:
            if has_image_suffix(name) and (key := _key(name)) in wanted:
                by_key[key].append(Path(folder, name))

    def rank(path: Path, file: Path) -> tuple[bool, bool, bool, str]:
        same_suffix = path.suffix.lower() == file.suffix.lower()
        return file.parent != path.parent, not same_suffix, path.stem != file.stem, str(file)

    found = {path: sorted(by_key[_key(path.name)], key=partial(rank, path)) for path in missing}
    beside = {path: [file for file in files if file.parent == path.parent] for path, files in found.items()}
    return {path: beside[path] or files for path, files in found.items() if files}


def missing_files(missing: Sequence[ImagePath], root: str | Path | None) -> list[str]:
    """The missing files of these images, each with the file that may be meant: 'images/a2: images/a2.png is there'.

    Those with such a file come first. root: the folder of the data set, in which they are looked for.
    """
    views = [view for image in missing for view in views_of(image)]
    paths = list(dict.fromkeys(view for view in views if isinstance(view, Path) and not path_exists(view)))
    folder = Path(root).expanduser() if root is not None else None
    nearest = nearest_files(paths[:DIAGNOSED], folder) if folder is not None and paths else {}

    def relative(path: Path) -> str:
        return path.relative_to(folder).as_posix() if folder and path.is_relative_to(folder) else str(path)

    def described(path: Path) -> str:
        files = nearest.get(path, [])
        verb = "is" if len(files) == 1 else "are"
        return f"{path}: {join_names(map(relative, files), 2)} {verb} there" if files else str(path)

    return [described(path) for path in sorted(paths, key=lambda path: path not in nearest)]


def _key(name: str) -> str:
    """The name without a suffix of images, in NFC and without case."""
    stem = PurePosixPath(name).stem if has_image_suffix(name) else name
    return composed(stem).casefold()


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for key, name in pairs:
        groups[key].append(name)
    return groups
