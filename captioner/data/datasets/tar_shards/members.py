"""Lists the files in a tar archive from its headers. The archive may come from an untrusted source.

Supported are POSIX.1-1988 (ustar), POSIX.1-2001 (pax: the `path` and `size` of a member) and GNU tar (long names, sizes
in base 256). Anything that could make a reader lose, repeat or misread a file is a DataError: links, devices, sparse
files, damaged headers, truncated archives, and archives that were concatenated.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from captioner.data.datasets.tar_shards.tar_archive import Archive
from captioner.errors import DataError

BLOCK = 512
MAX_NAME_BYTES = 1 << 16  # of a long name or a pax header: a hostile archive may declare gigabytes
MAX_PADDING = 1 << 20  # bytes of zeros after the end marker: tar fills its last record of 10 KiB

_FILES = (b"0", b"\0", b"7")
_SKIPPED = (b"5", b"g", b"K")  # folders, global pax headers, long link targets
_UNSUPPORTED = {
    b"1": "a link",
    b"2": "a link",
    b"3": "a device",
    b"4": "a device",
    b"6": "a pipe",
    b"S": "a sparse file",
}
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_OCTAL = re.compile(rb" *([0-7]*)[ \0]*(\0.*)?", re.DOTALL)
_PAX_RECORD = re.compile(rb"(\d{1,7}) ([^=\n]+)=")


class Member(NamedTuple):
    """A file in an archive: `size` bytes at `offset`, directly after a header with the CRC-32 `header_crc`."""

    name: str
    offset: int
    size: int
    header_crc: int


def read_members(file: BinaryIO, archive: Archive) -> Iterator[Member]:
    """Every file in an open archive, in order; DataError if the archive is unsupported or damaged.

    archive: its path, for messages. The caller may move the position in `file` between two members.
    """
    length = file.seek(0, 2)
    position = 0
    name: str | None = None  # of the next member, from an extended header
    size: int | None = None
    while True:
        header = _read(file, position, BLOCK, length, archive)
        if not header.strip(b"\0"):
            _check_nothing_follows(file, position + BLOCK, length, archive)
            return
        _check_header_sum(header, position, archive)
        kind, member_size = header[156:157], _number(header[124:136], position, archive)
        offset = position + BLOCK
        if kind in _UNSUPPORTED:
            raise shard_error(archive, position, f"it holds {_UNSUPPORTED[kind]} ({_name(header, name)!r})")
        if kind in (b"x", b"L"):
            if member_size > MAX_NAME_BYTES:
                raise shard_error(archive, position, f"it holds a name of {member_size:,} bytes")
            content = _read(file, offset, member_size, length, archive)
            if kind == b"L":
                name = _text(content.partition(b"\0")[0])
            else:
                pax = _pax_records(content, position, archive)
                name, size = pax.get("path", name), _pax_size(pax, position, archive)
            position = offset + _padded(member_size)
            continue
        if kind not in (*_FILES, *_SKIPPED):
            raise shard_error(archive, position, f"it holds a member of an unknown kind ({kind!r})")
        member_size = member_size if size is None else size
        if offset + member_size > length:
            raise truncated_error(archive, position)
        member_name = _name(header, name)
        if kind in _FILES and not member_name.endswith("/"):  # before ustar, folders were files with such a name
            yield Member(member_name, offset, member_size, zlib.crc32(header))
        if kind in (*_FILES, b"5"):
            name = size = None
        position = offset + _padded(member_size)


def read_content(file: BinaryIO, member: Member, archive: Archive) -> bytes:
    """The content of a member. The caller must have checked its size."""
    file.seek(member.offset)
    content = file.read(member.size)
    if len(content) != member.size:
        raise truncated_error(archive, member.offset)
    return content


def shard_error(archive: Archive, position: int, problem: str) -> DataError:
    """The error for an archive that cannot be used as a shard."""
    return DataError(f"{archive} cannot be used as a shard: {problem}, at byte {position:,}. Create it again.")


def truncated_error(archive: Archive, position: int) -> DataError:
    """The error for an archive that ends too early."""
    return DataError(
        f"{archive} is truncated: the content at byte {position:,} is incomplete. Download or create it again."
    )


def _read(file: BinaryIO, position: int, size: int, length: int, archive: Archive) -> bytes:
    if position + size > length:
        if position == 0:
            raise DataError(f"{archive} {'is not a tar archive' if length else 'is empty (0 bytes)'}.")
        raise truncated_error(archive, position)
    file.seek(position)
    content = file.read(size)
    if len(content) != size:
        raise truncated_error(archive, position)
    return content


def _check_header_sum(header: bytes, position: int, archive: Archive) -> None:
    """DataError unless the checksum is the sum of the header's bytes, with spaces in place of the checksum."""
    stored = _OCTAL.fullmatch(header[148:156])
    total = sum(header) - sum(header[148:156]) + 8 * ord(" ")
    if stored is None or int(stored[1] or b"0", 8) != total:
        if position == 0:
            for magic, kind in _COMPRESSED.items():
                if header.startswith(magic):
                    raise DataError(
                        f"{archive} is compressed ({kind}), so single images cannot be read. Decompress it: "
                        "compression saves little space for images."
                    )
            raise DataError(f"{archive} is not a tar archive.")
        raise shard_error(archive, position, "it holds a damaged header")


def _number(field: bytes, position: int, archive: Archive) -> int:
    """A size in octal digits, or in base 256 if the first bit is set (GNU tar)."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = _OCTAL.fullmatch(field)
    if digits is None:
        raise shard_error(archive, position, f"it holds a member with an invalid size ({field!r})")
    return int(digits[1] or b"0", 8)


def _pax_records(content: bytes, position: int, archive: Archive) -> dict[str, str]:
    """The records of a pax header: 'LENGTH KEY=VALUE\\n', where LENGTH is the size of the record in bytes."""
    records: dict[str, str] = {}
    while content:
        match = _PAX_RECORD.match(content)
        length = int(match[1]) if match else 0
        if match is None or not match.end() < length <= len(content) or content[length - 1 : length] != b"\n":
            raise shard_error(archive, position, "it holds a damaged pax header")
        key = _text(match[2])
        if key.startswith("GNU.sparse."):
            raise shard_error(archive, position, "it holds a sparse file")
        records[key] = _text(content[match.end() : length - 1])
        content = content[length:]
    return records


def _pax_size(records: dict[str, str], position: int, archive: Archive) -> int | None:
    size = records.get("size")
    if size is None:
        return None
    if re.fullmatch(r"[0-9]{1,20}", size) is None:
        raise shard_error(archive, position, f"it holds a member with an invalid size ({size[:40]!r})")
    return int(size)


def _name(header: bytes, long: str | None) -> str:
    if long is not None:
        return long
    name = header[:100].partition(b"\0")[0]
    prefix = header[345:500].partition(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    return _text(prefix + b"/" + name if prefix else name)


def _text(name: bytes) -> str:
    """A name as text. Bytes that are not UTF-8 become escape sequences."""
    return name.decode("utf-8", errors="backslashreplace")


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _check_nothing_follows(file: BinaryIO, position: int, length: int, archive: Archive) -> None:
    """DataError if members follow the end marker, as in concatenated archives: tar readers ignore them silently."""
    file.seek(position)
    if length - position > MAX_PADDING or file.read(length - position).strip(b"\0"):
        raise shard_error(archive, position, "it has content after its end marker, as concatenated archives have")
