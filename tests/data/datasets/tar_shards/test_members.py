"""Headers of tar archives: the members that Python's tarfile reads, and errors for malicious archives."""

from __future__ import annotations

import io
import tarfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.data.datasets.tar_shards.members import Member, read_content, read_members
from captioner.errors import DataError
from tests.data.datasets.tar_shards.tars import END, header, tar

SHARD = Path("shard.tar")
FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
NAMES = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1, max_size=20).filter(
    lambda name: not name.endswith("/")
)


def members(content: bytes) -> list[Member]:
    return list(read_members(io.BytesIO(content), SHARD))


@pytest.mark.parametrize("kind", FORMATS)
@given(st.dictionaries(NAMES.map(lambda name: name.strip("/") or "x"), st.binary(max_size=1200), max_size=5))
@settings(deadline=None, max_examples=25)
def test_members_equal_those_of_tarfile(kind: int, files: dict[str, bytes]) -> None:
    content = tar(files.items(), kind)
    found = members(content)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        oracle = [(member.name, member.offset_data, member.size) for member in archive.getmembers()]
    assert [(member.name, member.offset, member.size) for member in found] == oracle
    with io.BytesIO(content) as file:
        assert [read_content(file, member, SHARD) for member in found] == list(files.values())
    for member in found:
        assert member.header_crc == zlib.crc32(content[member.offset - 512 : member.offset])


@pytest.mark.parametrize("kind", FORMATS)
def test_long_names_and_folders(kind: int) -> None:
    """Each format stores names beyond 100 bytes differently; folders are not files."""
    name = "photos/" + "a" * 95 + "/" + "b" * 90 + ".jpg"
    stream = io.BytesIO(tar([("cat.txt", b"a cat"), (name, b"123")], kind))
    with tarfile.open(fileobj=stream, mode="a", format=kind) as archive:
        folder = tarfile.TarInfo("photos")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        archive.addfile(tarfile.TarInfo("empty.jpg"))
    assert [(member.name, member.size) for member in members(stream.getvalue())] == [
        ("cat.txt", 5),
        (name, 3),
        ("empty.jpg", 0),
    ]


@pytest.mark.parametrize(("kind", "what"), [(b"1", "link"), (b"2", "link"), (b"3", "device"), (b"6", "pipe")])
def test_links_and_devices_are_an_error(kind: bytes, what: str) -> None:
    with pytest.raises(DataError, match=rf"shard\.tar cannot be used as a shard: it holds a {what} \('evil\.jpg'\)"):
        members(header(b"evil.jpg", kind=kind) + END)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b"no archive", "is not a tar archive"),
        (b"x" * 4096, "is not a tar archive"),
        (b"\x1f\x8b" + b"x" * 4096, r"compressed \(gzip\)"),
        (header() + END + header(b"b.jpg") + END, "has content after its end marker"),
        (header() + END + bytes(2 << 20), "has content after its end marker"),
        (header() + b"\0" * 511 + b"1" + END, "damaged header, at byte 512"),
        (header(size=b"77777777777\0") + END, "is truncated"),
        (header(size=b"\x80" + b"\xff" * 11) + END, "is truncated"),
        (header(size=b"\xff" + b"\xff" * 11) + END, "invalid size"),
        (header(size=b"-0000000012\0") + END, "invalid size"),
        (header(size=b"0x1\0") + END, "invalid size"),
        (header(kind=b"L", size=b"77777777777\0") + END, "name of 8,589,934,591 bytes"),
        (header(kind=b"x", size=b"77777777777\0") + END, "name of 8,589,934,591 bytes"),
        (header(kind=b"S") + END, "sparse"),
        (header(kind=b"Z") + END, r"unknown kind \(b'Z'\)"),
        (header(kind=b"x", size=b"00000000005\0") + b"99 a=".ljust(512, b"\0") + END, "damaged pax header"),
        (header(kind=b"x", size=b"00000000011\0") + b"9 size=-1\n".ljust(512, b"\0") + END, "damaged pax header"),
        (header(kind=b"x", size=b"00000000013\0") + b"11 size=-1\n".ljust(512, b"\0") + header() + END, "invalid size"),
        (header(kind=b"x", size=b"00000000023\0") + b"19 GNU.sparse.m=1.0".ljust(512, b"\0") + END, "pax"),
        (header(kind=b"x", size=b"00000000024\0") + b"20 GNU.sparse.m=1.0\n".ljust(512, b"\0") + END, "sparse"),
    ],
)
def test_archives_that_would_be_misread_are_an_error(content: bytes, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        members(content)


def test_a_truncated_archive_is_an_error() -> None:
    """Except within the end marker, of which one block of zeros is enough."""
    whole = header(size=b"00000000003\0") + b"abc".ljust(512, b"\0") + END
    for length in range(len(whole) - 512):
        with pytest.raises(DataError):
            members(whole[:length])
    assert len(members(whole[:-512])) == 1


@given(st.data())
@settings(deadline=None, max_examples=250)
def test_changed_bytes_give_an_error_or_members_inside_the_file(data: st.DataObject) -> None:
    """Whatever is overwritten: a DataError, or members inside the file."""
    files = [("a.jpg", b"1" * 700), ("a.txt", b"a cat"), ("n/" * 60 + ".jpg", b"2")]
    content = bytearray(tar(files, data.draw(st.sampled_from(FORMATS))))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        new = data.draw(st.binary(min_size=1, max_size=12))
        content[place : place + len(new)] = new
    if data.draw(st.booleans()):
        for block in range(0, len(content) - 511, 512):  # correct the checksum, so that other checks are tested
            if content[block + 257 : block + 262] == b"ustar":
                total = sum(content[block : block + 512]) - sum(content[block + 148 : block + 156]) + 8 * ord(" ")
                content[block + 148 : block + 156] = b"%06o\0 " % total
    try:
        found = members(bytes(content))
    except DataError:
        return
    for member in found:
        assert 512 <= member.offset <= member.offset + member.size <= len(content)
