"""The index of a tar shard: the position of each image and its captions, determined once and stored on disk.

An index file, `<cache folder>/tar_indexes/<shard>-<hash of its path>.index`, consists of

    a line   a CRC-32 of the rest of the line and of the rows; JSON: the archive (path, size, modification time), counts
    rows     ROW_BYTES per pair: offset and size of the image, CRC-32 of its header, offset of the text
    texts    one line of JSON per pair: [image id, name of the image, captions …]

If the size or the modification time of an archive has changed, it is indexed again. A later change is noticed when an
image is read, by the CRC-32 of its header. Only the rows are in memory; texts are read on access.
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
from captioner.data.images.decode import IMAGE_SUFFIXES
from captioner.errors import DataError
from captioner.files import cache_directory, write_atomically

FORMAT_VERSION = 1
MAX_IMAGE_BYTES = 1 << 28  # bytes; read into memory whole
MAX_CAPTION_BYTES = 1 << 20
_ROW = np.dtype([("offset", "<u8"), ("size", "<u4"), ("header_crc", "<u4"), ("text", "<u4")])
ROW_BYTES = _ROW.itemsize
_IMAGES = frozenset(suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES)


class PairText(NamedTuple):
    """Id, name and captions of a pair."""

    image_id: ImageId
    check_image_name: str
    captions: tuple[str, ...]


@dataclass(frozen=True)
class ShardIndex:
    """The pairs of one archive, in the order in which their keys first appear. `file` is the index file."""

    archive: Path
    file: Path
    rows: np.ndarray  # (pairs,) of type _ROW
    texts_start: int  # byte in `file`
    texts_size: int
    texts_crc32: int
    blank: int  # number of blank captions, which are left out
    without_image: tuple[str, ...]  # keys with a caption but no image

    def __len__(self) -> int:
        return len(self.rows)

    def text(self, row: int) -> PairText:
        """The text of one pair."""
        start = int(self.rows["text"][row])
        end = int(self.rows["text"][row + 1]) if row + 1 < len(self) else self.texts_size
        with _open(self.file) as file:
            file.seek(self.texts_start + start)
            return self._parse(file.read(end - start))

    def texts(self) -> Iterator[PairText]:
        """The texts of all pairs, in order."""
        with _open(self.file) as file:
            file.seek(self.texts_start)
            content = file.read(self.texts_size)
        if zlib.crc32(content) != self.texts_crc32:
            raise self._damaged()
        try:
            records = json.loads(b"[" + content[:-1].replace(b"\n", b",") + b"]")  # several times faster than by line
        except ValueError as error:
            raise self._damaged() from error
        for image_id, name, *captions in records:
            yield PairText(image_id, name, tuple(captions))

    def _parse(self, line: bytes) -> PairText:
        try:
            image_id, name, *captions = json.loads(line)
        except ValueError as error:
            raise self._damaged() from error
        return PairText(image_id, name, tuple(captions))

    def _damaged(self) -> DataError:
        return DataError(f"The index {self.file} is damaged. Delete it to index {self.archive} again.")


def index_file(archive: Path) -> Path:
    """The path of the index file of an archive."""
    digest = hashlib.blake2b(os.path.abspath(archive).encode(errors="surrogateescape"), digest_size=8)  # noqa: PTH100
    return cache_directory() / "tar_indexes" / f"{archive.stem}-{digest.hexdigest()}.index"


def read_index(archive: Path) -> ShardIndex | None:
    """The stored index, or None if it does not exist, is damaged, or belongs to another state of the archive."""
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
            is_complete = file.seek(0, os.SEEK_END) == index.texts_start + index.texts_size
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
    is_intact = is_complete and checksum == _checksum(line, rows)
    return index if is_intact and about["of"] == _identity(archive) else None


def build_index(archive: Path) -> None:
    """Read the headers and captions of an archive and store its index; DataError if the archive cannot be used."""
    identity = _identity(archive)
    with _open(archive) as file:
        pairs = _read_pairs(file, archive)
    found = [pair for pair in pairs.values() if pair.image is not None]
    rows = np.zeros(len(found), dtype=_ROW)
    texts = bytearray()
    for row, pair in enumerate(found):
        assert pair.image is not None
        rows[row] = (pair.image.offset, pair.image.size, pair.image.header_crc, len(texts))
        captions = [caption for caption in pair.captions if caption.strip()]
        texts += json.dumps([pair.image_id, pair.image.name, *captions], ensure_ascii=False).encode() + b"\n"
        if len(texts) >= 1 << 32:  # offsets in rows have 32 bits
            raise DataError(f"{archive} holds more than 4 GB of captions. Divide it into smaller archives.")
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
            f"The index of {archive} cannot be written to {path.parent} ({error.strerror}): set the environment "
            "variable CAPTIONER_CACHE to another folder."
        ) from error


def _checksum(line: bytes, rows: np.ndarray) -> bytes:
    return b"%08x" % zlib.crc32(rows.tobytes(), zlib.crc32(line))


def _identity(archive: Path) -> dict[str, Any]:
    """Values that differ between archives, and before and after a change of an archive."""
    try:
        status = archive.stat()
    except OSError as error:
        raise DataError(f"{archive} cannot be read: {error.strerror}.") from error
    path = os.path.abspath(archive)  # noqa: PTH100 - Path.resolve would follow links
    return {"format": FORMAT_VERSION, "path": path, "size": status.st_size, "time": status.st_mtime_ns}


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error


@dataclass
class _Pair:
    """The files of an archive with the same key."""

    image_id: ImageId
    image: Member | None = None
    text: list[str] = field(default_factory=list)  # captions in the .txt file
    json: list[str] | None = None  # captions in the .json file, which take precedence; None if it has none
    suffixes: set[str] = field(default_factory=set)

    @property
    def captions(self) -> list[str]:
        return self.text if self.json is None else self.json


def _read_pairs(file: BinaryIO, archive: Path) -> dict[str, _Pair]:
    pairs: dict[str, _Pair] = {}
    for member in read_members(file, archive):
        key, suffix = _split_name(member.name)
        is_image = suffix in _IMAGES
        if not key or not (is_image or suffix in ("txt", "json")):
            continue
        pair = pairs.setdefault(key, _Pair(key))
        where = f"{archive}:{member.name}"
        if suffix in pair.suffixes:
            raise DataError(f"{where} is in the archive twice. Names must be unique in a shard.")
        pair.suffixes.add(suffix)
        max_bytes = MAX_IMAGE_BYTES if is_image else MAX_CAPTION_BYTES
        if member.size > max_bytes:
            raise DataError(f"{where} has {member.size:,} bytes. Expected at most {max_bytes:,}.")
        if is_image and pair.image is not None:
            raise DataError(f"{where} is a second image beside {pair.image.name}. Expected one image per key.")
        if is_image:
            pair.image = member
        elif suffix == "txt":
            pair.text = [_decode(read_content(file, member, archive), where).strip()]
        else:
            _read_json(pair, read_content(file, member, archive), where)
    return pairs


def _split_name(name: str) -> tuple[str, str]:
    """(key, suffix) of a member as webdataset defines them: the suffix begins at the first dot of the file name.

    ("", "") for hidden files, such as those that macOS adds ("._cat.jpg").
    """
    folder, slash, file_name = name.removeprefix("./").rpartition("/")
    stem, _, suffix = file_name.partition(".")
    return (folder + slash + stem, suffix.lower()) if stem else ("", "")


def _decode(content: bytes, where: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{where} is not UTF-8 text (byte {error.start}).") from error


def _read_json(pair: _Pair, content: bytes, where: str) -> None:
    """Set the captions and the image id of `pair` from a .json file. Other fields of the file are ignored."""
    try:
        record = json.loads(_decode(content, where))
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
            raise DataError(f"{where}: {name!r} is neither a string nor a list of strings.")
        pair.json = [check_text(caption, where) for caption in captions]
        break
    image_id = record.get("image_id")
    if isinstance(image_id, str):
        pair.image_id = check_text(image_id, where)
    elif isinstance(image_id, int) and not isinstance(image_id, bool):
        pair.image_id = image_id
