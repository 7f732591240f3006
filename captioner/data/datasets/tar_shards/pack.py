"""Writes any data set as tar shards, for `python -m captioner data pack`."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from captioner.data.dataset import CaptionDataset, CaptionedImage, ImagePath
from captioner.data.datasets.annotation_files import join_names
from captioner.data.datasets.tar_shards.patterns import begun_name
from captioner.data.features.locks import lock_open_file
from captioner.data.image_views import ImageViews
from captioner.data.images.decode import IMAGE_SUFFIXES
from captioner.errors import CaptionerError, ConfigError, DataError, ImageError
from captioner.files import atomic_file

NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)  # of a file system without locks
_PLAIN_ID = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*")  # no dot, because the suffix begins at the first one


def pack_shards(dataset: CaptionDataset, folder: Path, pairs_per_shard: int) -> list[Path]:
    """Write the images and captions of a split to `folder`/SPLIT-00000.tar, … and return the paths.

    Image files are copied unchanged. A pair is KEY.jpg (or .png, …) and KEY.txt if its only text is one caption and the
    key is the image id; otherwise KEY.json with {"image_id": …, "captions": […]}. Equal data sets give equal bytes.
    Shards are written atomically. Bounding boxes are not written. A pack that was killed is done again.

    DataError if the folder already has shards of the split, another process packs it there, or the disk is full;
    ImageError for an image that cannot be read.
    """
    _check_pairs_per_shard(pairs_per_shard)
    begun = folder / begun_name(dataset.split)
    if not begun.exists():
        _check_unused(folder, dataset.split)
    with _mark_begun(begun) as marker:
        if not marker.tell():  # another process may have finished since
            try:
                _check_unused(folder, dataset.split)
            except DataError:
                _remove(begun, marker)
                raise
            try:
                marker.write(b"captioner data pack has not finished: run it again.\n")
            except OSError as error:
                raise DataError(f"{folder} cannot be written: {error.strerror}.") from error
        return _pack(dataset, folder, pairs_per_shard, begun, marker)


def _check_unused(folder: Path, split: str) -> None:
    """DataError where the folder has finished shards of the split."""
    if existing := sorted(folder.glob(f"{split}-*.tar")):
        names = join_names(path.name for path in existing)
        raise DataError(f"{folder} already holds shards of {split} ({names}). Move them, or name another folder.")


def _pack(dataset: CaptionDataset, folder: Path, pairs_per_shard: int, begun: Path, marker: IO[bytes]) -> list[Path]:
    """`pack_shards`, with the file `begun` locked."""
    existing = sorted(folder.glob(f"{dataset.split}-*.tar"))  # of a pack that was killed
    paths: list[Path] = []
    title = f"packing {dataset.name} {dataset.split}"
    with tqdm(total=len(dataset), desc=title, unit="image", disable=not sys.stderr.isatty()) as bar:
        for number, start in enumerate(range(0, len(dataset), pairs_per_shard)):
            path = folder / f"{dataset.split}-{number:05}.tar"
            try:
                _write_shard(path, dataset.images[start : start + pairs_per_shard], bar)
            except (CaptionerError, OSError) as error:
                if not paths and not existing:  # nothing is there that could be taken for the whole
                    _remove(begun, marker)
                if not isinstance(error, OSError):
                    raise
                raise DataError(
                    f"{path} cannot be written: {error.strerror}. The shards before it are complete: run the command "
                    "again, and all of them are."
                ) from error
            paths.append(path)
    for rest in set(existing) - set(paths):  # of an unfinished pack with more shards
        rest.unlink()
    _remove(begun, marker)
    return paths


def _mark_begun(begun: Path) -> IO[bytes]:
    """Open the file that says that a pack has not finished, at its end; it is locked as long as it is open.

    DataError if another process has locked it: the shards of two packs of different sizes would be mixed.
    """
    try:
        begun.parent.mkdir(parents=True, exist_ok=True)
        marker = begun.open("a+b", buffering=0)
        try:
            locked = lock_open_file(marker)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            locked = True  # nobody can tell
        if locked and begun.exists() and os.path.samestat(begun.stat(), os.fstat(marker.fileno())):
            return marker
        marker.close()
    except OSError as error:
        raise DataError(f"{begun.parent} cannot be written: {error.strerror}.") from error
    raise DataError(
        f"Another process is packing this split into {begun.parent}: wait until it has finished, or use another folder."
    )


def _remove(begun: Path, marker: IO[bytes]) -> None:
    """Remove the file of a pack that leaves nothing unfinished, while it is locked."""
    if sys.platform == "win32":
        marker.close()  # an open file cannot be removed there
    begun.unlink(missing_ok=True)


def packed_bytes(dataset: CaptionDataset, pairs_per_shard: int) -> int:
    """The number of bytes that `pack_shards` will write, computed from the sizes of the image files.

    It is exact unless a name needs a second header (more than 100 characters). ImageError for a missing image.
    """
    _check_pairs_per_shard(pairs_per_shard)
    total = 0
    for start in range(0, len(dataset), pairs_per_shard):
        pairs = sum(map(_pair_bytes, dataset.images[start : start + pairs_per_shard]))
        total += (
            -(-(pairs + 2 * tarfile.BLOCKSIZE) // tarfile.RECORDSIZE) * tarfile.RECORDSIZE
        )  # two blocks mark the end
    return total


def _pair_bytes(image: CaptionedImage) -> int:
    """The size of a pair's two members, each a header and content padded to whole blocks."""
    sizes = _size(image.path), len(_captions_file(image, _key(image))[1])
    return sum(tarfile.BLOCKSIZE * (1 + -(-size // tarfile.BLOCKSIZE)) for size in sizes)


def _size(path: ImagePath) -> int:
    if isinstance(path, ImageViews):
        raise DataError(f"{path} is a sample of {len(path.views)} images, and tar shards hold one image per sample.")
    try:
        return path.stat().st_size if isinstance(path, Path) else path.byte_count()
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror}.") from error


def _check_pairs_per_shard(pairs_per_shard: int) -> None:
    if pairs_per_shard < 1:
        raise ConfigError(f"{pairs_per_shard} pairs per shard: expected 1 or more.")


def _write_shard(path: Path, images: Sequence[CaptionedImage], bar: tqdm[None]) -> None:
    with atomic_file(path) as temporary, tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as archive:
        taken: set[str] = set()
        for image in images:
            key = _key(image)
            while key in taken:
                key += "_"
            taken.add(key)
            content = _read(image.path)
            _add(archive, key + _suffix(image.path, content), content)
            _add(archive, *_captions_file(image, key))
            bar.update()


def _key(image: CaptionedImage) -> str:
    if isinstance(image.image_id, int):
        return f"{image.image_id:012}"
    plain = _PLAIN_ID.fullmatch(image.image_id) is not None and len(image.image_id) < 90
    return image.image_id if plain else "pair"


def _captions_file(image: CaptionedImage, key: str) -> tuple[str, bytes]:
    """(name, content) of the file with the captions: .txt if that loses nothing, else .json."""
    if key == image.image_id and len(image.captions) == 1 and _is_unchanged_by_reading(image.captions[0]):
        return f"{key}.txt", image.captions[0].encode()
    record = {"image_id": image.image_id, "captions": list(image.captions)}
    return f"{key}.json", json.dumps(record, ensure_ascii=False).encode()


def _is_unchanged_by_reading(caption: str) -> bool:
    return bool(caption) and caption == caption.strip() and not caption.startswith("\ufeff")


def _read(path: ImagePath) -> bytes:
    _size(path)  # raises for what cannot be packed
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror}.") from error


def _suffix(path: ImagePath, content: bytes) -> str:
    """The suffix of the file if it is an image suffix, else the one of the format of its content."""
    suffix = Path(path.name).suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return suffix
    try:
        with Image.open(io.BytesIO(content)) as image:
            suffix = f".{str(image.format).lower()}"
    except (UnidentifiedImageError, OSError, ValueError) as error:
        raise ImageError(f"{path} is not an image, judging by its name and its content.") from error
    if suffix not in IMAGE_SUFFIXES:
        raise ImageError(f"{path} is an image in an unsupported format ({suffix.removeprefix('.')}).")
    return suffix


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)  # without owner and time, so that equal data sets give equal bytes
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))
