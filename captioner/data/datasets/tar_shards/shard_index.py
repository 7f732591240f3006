"""The index of a tar shard: the position of each image and its captions, determined once and stored on disk.

An index file, `<cache folder>/tar_indexes/<shard>-<hash of its path>.index`, consists of

    a line   a CRC-32 of the rest of the line and of the rows; JSON: the archive (path, size, modification time), counts
    rows     ROW_BYTES per pair: offset and size of the image, CRC-32 of its header, offset of the text;
             for an archive on a server also the hash of the image, which has to be read then anyway
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
from captioner.data.datasets.tar_shards.remote import RemoteArchive
from captioner.data.datasets.tar_shards.tar_archive import Archive, absolute_name, identity, open_archive, open_file
from captioner.data.datasets.tar_shards.tar_image import ImageInTar
from captioner.data.images.decode import IMAGE_SUFFIXES
from captioner.data.stored_image import hash_content
from captioner.errors import DataError
from captioner.files import cache_directory, write_atomically

FORMAT_VERSION = 2
MAX_IMAGE_BYTES = 1 << 28  # bytes; read into memory whole
MAX_CAPTION_BYTES = 1 << 20
_ROW = np.dtype([("offset", "<u8"), ("size", "<u4"), ("header_crc", "<u4"), ("text", "<u4")])
_REMOTE_ROW = np.dtype([*_ROW.descr, ("hash", "V16")])
ROW_BYTES = _ROW.itemsize
_IMAGES = frozenset(suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES)


class PairText(NamedTuple):
    """Id, name and captions of a pair."""

    image_id: ImageId
    image_name: str
    captions: tuple[str, ...]


@dataclass(frozen=True)
class ShardIndex:
    """The pairs of one archive, in the order in which their keys first appear. `file` is the index file."""

    archive: Archive
    file: Path
    rows: np.ndarray  # (pairs,) of type _ROW, or _REMOTE_ROW for an archive on a server
    texts_start: int  # byte in `file`
    texts_size: int
    texts_crc32: int
    blank: int  # number of blank captions, which are left out
    without_image: tuple[str, ...]  # keys with a caption but no image

    def __len__(self) -> int:
        return len(self.rows)

    def image(self, row: int, name: str) -> ImageInTar:
        """Where the image of one pair is; `name`: of its text."""
        offset, size, header_crc = (int(self.rows[key][row]) for key in ("offset", "size", "header_crc"))
        stored = self.rows["hash"][row].tobytes().hex() if "hash" in (self.rows.dtype.names or ()) else ""
        return ImageInTar(self.archive, name, offset, size, header_crc, stored)

    def text(self, row: int) -> PairText:
        """The text of one pair."""
        start = int(self.rows["text"][row])
        end = int(self.rows["text"][row + 1]) if row + 1 < len(self) else self.texts_size
        with open_file(self.file) as file:
            file.seek(self.texts_start + start)
            return self._parse(file.read(end - start))

    def texts(self) -> Iterator[PairText]:
        """The texts of all pairs, in order."""
        with open_file(self.file) as file:
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


def index_file(archive: Archive) -> Path:
    """The path of the index file of an archive."""
    digest = hashlib.blake2b(absolute_name(archive).encode(errors="surrogateescape"), digest_size=8)
    return cache_directory() / "tar_indexes" / f"{archive.stem}-{digest.hexdigest()}.index"


def read_index(archive: Archive) -> ShardIndex | None:
    """The stored index, or None if it does not exist, is damaged, or belongs to another state of the archive.

    DataError if the archive cannot be read.
    """
    path = index_file(archive)
    try:
        with path.open("rb") as file:
            checksum, _, line = file.readline().partition(b" ")
            about = json.loads(line)
            rows = np.fromfile(file, dtype=_row_type(archive), count=about["pairs"])
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


def build_index(archive: Archive) -> None:
    """Read the headers and captions of an archive and store its index; DataError if the archive cannot be used."""
    before = _identity(archive)
    with open_archive(archive, before["size"]) as file:
        pairs = _read_pairs(file, archive)
    found = [pair for pair in pairs.values() if pair.image is not None]
    rows = np.zeros(len(found), dtype=_row_type(archive))
    texts = bytearray()
    for row, pair in enumerate(found):
        assert pair.image is not None
        place = (pair.image.offset, pair.image.size, pair.image.header_crc, len(texts))
        rows[row] = (*place, bytes.fromhex(pair.hash)) if isinstance(archive, RemoteArchive) else place
        captions = [caption for caption in pair.captions if caption.strip()]
        texts += json.dumps([pair.image_id, pair.image.name, *captions], ensure_ascii=False).encode() + b"\n"
        if len(texts) >= 1 << 32:  # offsets in rows have 32 bits
            raise DataError(f"{archive} holds more than 4 GB of captions. Divide it into smaller archives.")
    about = {
        "of": before,
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


def _identity(archive: Archive) -> dict[str, Any]:
    """Values that differ between archives, and before and after a change of an archive."""
    return {"format": FORMAT_VERSION, **identity(archive)}


def _row_type(archive: Archive) -> np.dtype[Any]:
    return _REMOTE_ROW if isinstance(archive, RemoteArchive) else _ROW


@dataclass
class _Pair:
    """The files of an archive with the same key."""

    image_id: ImageId
    image: Member | None = None
    hash: str = ""  # of the image in an archive on a server
    text: list[str] = field(default_factory=list)  # captions in the .txt file
    json: list[str] | None = None  # captions in the .json file, which take precedence; None if it has none
    suffixes: set[str] = field(default_factory=set)

    @property
    def captions(self) -> list[str]:
        return self.text if self.json is None else self.json


def _read_pairs(file: BinaryIO, archive: Archive) -> dict[str, _Pair]:
    """Key → its files. Files with a part between key and suffix (`key.input.jpg`) count where no plain one is."""
    plain: dict[str, _Pair] = {}
    named: dict[str, _Pair] = {}  # those with such a part
    second_images: dict[str, str] = {}
    for member in read_members(file, archive):
        key, part, suffix = _split_name(member.name)
        is_image = suffix in _IMAGES
        if not key or not (is_image or suffix in ("txt", "json")):
            continue
        pairs = named if part else plain
        pair = pairs.setdefault(key, _Pair(key))
        where = f"{archive}:{member.name}"
        if f"{part}.{suffix}" in pair.suffixes:
            raise DataError(f"{where} is in the archive twice. Names must be unique in a shard.")
        pair.suffixes.add(f"{part}.{suffix}")
        max_bytes = MAX_IMAGE_BYTES if is_image else MAX_CAPTION_BYTES
        if member.size > max_bytes:
            raise DataError(f"{where} has {member.size:,} bytes. Expected at most {max_bytes:,}.")
        if is_image and pair.image is not None:
            second = f"{where} is a second image beside {pair.image.name}. Expected one image per key"
            if not part:
                raise DataError(f"{second}.")
            second_images.setdefault(key, f"{second}, or one without a part between key and suffix ({key}.{suffix}).")
        elif is_image:
            pair.image = member
            if isinstance(archive, RemoteArchive):
                pair.hash = hash_content(read_content(file, member, archive))
        elif suffix == "txt":
            pair.text.append(_decode(read_content(file, member, archive), where).strip())
        else:
            _read_json(pair, read_content(file, member, archive), where)
    for key, other in named.items():
        pair = plain.setdefault(key, _Pair(key))
        if pair.image is None and key in second_images:
            raise DataError(second_images[key])
        _complete(pair, other)
    return plain


def _complete(pair: _Pair, other: _Pair) -> None:
    """Give `pair` what it lacks from `other`: files of the same key with a part between key and suffix."""
    if pair.image is None:
        pair.image, pair.hash = other.image, other.hash
    if not pair.captions:
        pair.text, pair.json = other.text, other.json
    if pair.image_id != other.image_id and not any(suffix == ".json" for suffix in pair.suffixes):
        pair.image_id = other.image_id


def _split_name(name: str) -> tuple[str, str, str]:
    """(key, part, suffix) of a member: the key ends at the first dot of the file name, as in webdataset.

    cat.jpg is ("cat", "", "jpg") and cat.input.jpg ("cat", "input", "jpg"). The key is "" for hidden files, such as
    those that macOS adds ("._cat.jpg").
    """
    folder, slash, file_name = name.removeprefix("./").rpartition("/")
    stem, _, rest = file_name.partition(".")
    part, _, suffix = rest.lower().rpartition(".")
    return (folder + slash + stem, part, suffix) if stem else ("", "", "")


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
