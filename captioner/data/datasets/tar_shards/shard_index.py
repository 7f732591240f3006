"""Where each pair of a shard lies: found out once, from the archive's headers and captions, and kept.

An index file, `<cache folder>/tar_indexes/<shard>-<hash of its path>.index`, is

    a line   a CRC-32 of its rest and of the rows; as JSON, what it is of (path, size, time of change), and counts
    rows     ROW_BYTES a pair: where the image lies, the CRC-32 of its header, where the text begins
    texts    a line of JSON a pair: [image id, the image's name, captions …]

An archive of another size or time than its index is indexed anew; one that changes later is found out when an image
is read, by the CRC-32 of its header. In memory are the rows only; texts are read when they are asked for.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from captioner.data.dataset import ImageId
from captioner.data.datasets.annotation_files import check_text
from captioner.data.datasets.tar_shards.members import Member, read_content, read_members
from captioner.data.features.paths import cache_directory
from captioner.data.images.decode import IMAGE_SUFFIXES
from captioner.errors import DataError
from captioner.files import write_atomically

FORMAT_VERSION = 1
MAX_IMAGE_BYTES = 1 << 28  # bytes; read into memory whole
MAX_CAPTION_BYTES = 1 << 20
_ROW = np.dtype([("offset", "<u8"), ("size", "<u4"), ("header_crc", "<u4"), ("text", "<u4")])
ROW_BYTES = _ROW.itemsize
_IMAGES = frozenset(suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES)


class PairText(NamedTuple):
    """What is known of a pair besides where its image lies."""

    image_id: ImageId
    check_image_name: str
    captions: tuple[str, ...]


@dataclass(frozen=True)
class ShardIndex:
    """The pairs of one archive, in the order in which it first names them. `file` holds the texts."""

    archive: Path
    file: Path
    rows: np.ndarray  # (pairs,) of _ROW
    texts_start: int  # in `file`
    texts_size: int
    texts_crc32: int
    blank: int  # captions without a word, left out
    without_image: tuple[str, ...]  # keys that have a caption only

    def __len__(self) -> int:
        return len(self.rows)

    def text(self, row: int) -> PairText:
        """Of one pair."""
        start = int(self.rows["text"][row])
        end = int(self.rows["text"][row + 1]) if row + 1 < len(self) else self.texts_size
        with _opened(self.file) as file:
            file.seek(self.texts_start + start)
            return self._parsed(file.read(end - start))

    def texts(self) -> Iterator[PairText]:
        """Of all pairs, in order."""
        with _opened(self.file) as file:
            file.seek(self.texts_start)
            content = file.read(self.texts_size)
        if zlib.crc32(content) != self.texts_crc32:
            raise self._damaged()
        try:
            every = json.loads(b"[" + content[:-1].replace(b"\n", b",") + b"]")  # several times as fast as line by line
        except ValueError as error:
            raise self._damaged() from error
        for image_id, name, *captions in every:
            yield PairText(image_id, name, tuple(captions))

    def _parsed(self, line: bytes) -> PairText:
        try:
            image_id, name, *captions = json.loads(line)
        except ValueError as error:
            raise self._damaged() from error
        return PairText(image_id, name, tuple(captions))

    def _damaged(self) -> DataError:
        return DataError(f"The index {self.file} is damaged. Delete it, and {self.archive} is indexed anew.")


def index_file(archive: Path) -> Path:
    """Where the index of a shard is kept."""
    digest = hashlib.blake2b(os.path.abspath(archive).encode(errors="surrogateescape"), digest_size=8)  # noqa: PTH100
    return cache_directory() / "tar_indexes" / f"{archive.stem}-{digest.hexdigest()}.index"


def read_index(archive: Path) -> ShardIndex | None:
    """The index that is kept, or None where there is none, or one of another archive, or a damaged one."""
    path = index_file(archive)
    try:
        with path.open("rb") as file:
            checksum, _, line = file.readline().partition(b" ")
            about = json.loads(line)
            rows = np.fromfile(file, dtype=_ROW, count=about["pairs"])
            index = ShardIndex(
                archive=archive,
                file=path,
                rows=rows,
                texts_start=file.tell(),
                texts_size=about["texts_size"],
                texts_crc32=about["texts_crc32"],
                blank=about["blank"],
                without_image=tuple(about["without_picture"]),
            )
            whole = file.seek(0, os.SEEK_END) == index.texts_start + index.texts_size
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
    is_sound = whole and checksum == _checksum(line, rows)
    return index if is_sound and about["of"] == _identity(archive) else None


def build_index(archive: Path) -> None:
    """Read the archive's headers and captions, and keep the index. Raises DataError for what cannot be a shard."""
    identity = _identity(archive)
    with _opened(archive) as file:
        pairs = _read_pairs(file, archive)
    found = [pair for pair in pairs.values() if pair.image is not None]
    rows = np.zeros(len(found), dtype=_ROW)
    texts = bytearray()
    for row, pair in enumerate(found):
        assert pair.image is not None
        rows[row] = (pair.image.offset, pair.image.size, pair.image.header_crc, len(texts))
        captions = [caption for caption in pair.captions if caption.strip()]
        texts += json.dumps([pair.image_id, pair.image.name, *captions], ensure_ascii=False).encode() + b"\n"
        if len(texts) >= 1 << 32:  # what a row can point at
            raise DataError(f"{archive} holds more than 4 GB of captions. Make it of fewer pairs.")
    about = {
        "of": identity,
        "pairs": len(found),
        "blank": sum(not caption.strip() for pair in found for caption in pair.captions),
        "without_picture": [key for key, pair in pairs.items() if pair.image is None and pair.captions],
        "texts_size": len(texts),
        "texts_crc32": zlib.crc32(texts),
    }
    path, line = index_file(archive), json.dumps(about).encode() + b"\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, _checksum(line, rows) + b" " + line + rows.tobytes() + texts)
    except OSError as error:
        raise DataError(
            f"The index of {archive} cannot be kept in {path.parent} ({error.strerror}): name another cache folder in "
            "the environment variable CAPTIONER_CACHE."
        ) from error


def _checksum(line: bytes, rows: np.ndarray) -> bytes:
    return b"%08x" % zlib.crc32(rows.tobytes(), zlib.crc32(line))


def _identity(archive: Path) -> dict[str, Any]:
    """What tells an archive from another, or from itself before it was changed."""
    try:
        status = archive.stat()
    except OSError as error:
        raise DataError(f"{archive} cannot be read: {error.strerror}.") from error
    path = os.path.abspath(archive)  # noqa: PTH100 - as it was named, links not followed
    return {"format": FORMAT_VERSION, "path": path, "size": status.st_size, "time": status.st_mtime_ns}


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error


@dataclass
class _Pair:
    """What an archive holds under one key."""

    image_id: ImageId
    image: Member | None = None
    text: list[str] = field(default_factory=list)  # of the .txt file
    json: list[str] | None = None  # of the .json file, where it has captions: they go first
    seen: set[str] = field(default_factory=set)  # endings

    @property
    def captions(self) -> list[str]:
        return self.text if self.json is None else self.json


def _read_pairs(file: BinaryIO, archive: Path) -> dict[str, _Pair]:
    pairs: dict[str, _Pair] = {}
    for member in read_members(file, archive):
        key, ending = _split_name(member.name)
        is_image = ending in _IMAGES
        if not key or not (is_image or ending in ("txt", "json")):
            continue
        pair = pairs.setdefault(key, _Pair(key))
        where = f"{archive}:{member.name}"
        if ending in pair.seen:
            raise DataError(f"{where} is in the archive twice. Names must be unique in a shard.")
        pair.seen.add(ending)
        most = MAX_IMAGE_BYTES if is_image else MAX_CAPTION_BYTES
        if member.size > most:
            raise DataError(f"{where} has {member.size:,} bytes. Expected at most {most:,}.")
        if is_image and pair.image is not None:
            raise DataError(f"{where} is a second image beside {pair.image.name}. Expected one image a key.")
        if is_image:
            pair.image = member
        elif ending == "txt":
            pair.text = [_decoded(read_content(file, member, archive), where).strip()]
        else:
            _read_json(pair, read_content(file, member, archive), where)
    return pairs


def _split_name(name: str) -> tuple[str, str]:
    """A member's key and ending, as webdataset has them: the file name's part from the first dot on is the ending.

    ("", "") for hidden files, such as those that macOS adds ("._cat.jpg").
    """
    folder, slash, file_name = name.removeprefix("./").rpartition("/")
    stem, _, ending = file_name.partition(".")
    return (folder + slash + stem, ending.lower()) if stem else ("", "")


def _decoded(content: bytes, where: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{where} is not UTF-8 text (byte {error.start}).") from error


def _read_json(pair: _Pair, content: bytes, where: str) -> None:
    """Captions and image id of a .json file, where it has them; whatever else stands in it is not looked at."""
    try:
        record = json.loads(_decoded(content, where))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is not JSON ({error}).") from error
    if not isinstance(record, dict):
        raise DataError(f"{where} holds a {type(record).__name__}. Expected an object with captions.")
    for name in ("captions", "caption"):
        value = record.get(name)
        if value is None:
            continue
        captions = [value] if isinstance(value, str) else value
        if not isinstance(captions, list) or not all(isinstance(caption, str) for caption in captions):
            raise DataError(f"{where}: {name!r} is no text and no list of texts.")
        pair.json = [check_text(caption, where) for caption in captions]
        break
    image_id = record.get("image_id")
    if isinstance(image_id, str):
        pair.image_id = check_text(image_id, where)
    elif isinstance(image_id, int) and not isinstance(image_id, bool):
        pair.image_id = image_id
