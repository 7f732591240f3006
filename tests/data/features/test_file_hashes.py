"""The stored hashes of image files are those of their content, whatever happens to the files and to the store."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner.data.features import file_hashes
from captioner.data.features.cache import image_digests
from captioner.data.features.file_hashes import FileHashes
from captioner.data.stored_image import hash_content


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    """Files in two folders, with names that are hard to store."""
    paths = [tmp_path / "a" / name for name in ("1.jpg", "ä b.jpg", os.fsdecode(b"\xff.jpg"))] + [tmp_path / "b/1.jpg"]
    for number, path in enumerate(paths):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"image %d" % number)
    return paths


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file counts as unchanged for long, so that all hashes are stored."""
    monkeypatch.setattr(file_hashes, "SETTLED", -1e6)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The image files that are read."""
    read: list[Path] = []
    read_content = file_hashes.read_content

    def recorded(path: str, size: int) -> bytes:
        read.append(Path(path))
        return read_content(path, size)

    monkeypatch.setattr(file_hashes, "read_content", recorded)
    return read


def all_hashes(images: list[Path], store: Path) -> dict[Path, str]:
    hashes = FileHashes(store)
    found = {path: hashes.of(path) for path in images}
    hashes.save()
    return found


def expected(images: list[Path]) -> dict[Path, str]:
    return {path: hash_content(path.read_bytes()) for path in images}


@pytest.mark.usefixtures("settled")
def test_a_file_is_read_once(tmp_path: Path, images: list[Path], reads: list[Path]) -> None:
    first = all_hashes(images, tmp_path / "store")
    assert reads == images
    assert all_hashes(images, tmp_path / "store") == first
    assert reads == images
    assert first == expected(images)


@pytest.mark.usefixtures("settled")
def test_a_replaced_file_is_noticed(tmp_path: Path, images: list[Path], reads: list[Path]) -> None:
    all_hashes(images, tmp_path / "store")
    before = images[0].stat()
    images[0].write_bytes(b"image 9")  # as many bytes
    os.utime(images[0], ns=(before.st_atime_ns, before.st_mtime_ns))  # with the same date
    images[1].rename(images[3])
    reads.clear()
    left = [images[0], images[2], images[3]]
    assert all_hashes(left, tmp_path / "store") == expected(left)
    assert images[2] not in reads[:2]
    reads.clear()
    all_hashes(left, tmp_path / "store")
    assert reads == []


def test_a_file_that_has_just_changed_is_not_stored(
    tmp_path: Path, images: list[Path], reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_hashes, "SETTLED", 1e6)
    all_hashes(images, tmp_path / "store")
    all_hashes(images, tmp_path / "store")
    assert reads == 2 * images
    assert not (tmp_path / "store").exists()


@pytest.mark.usefixtures("settled")
def test_a_damaged_store_is_ignored(tmp_path: Path, images: list[Path]) -> None:
    store = tmp_path / "store"
    all_hashes(images, store)
    for file in sorted(store.iterdir()):
        content = bytearray(file.read_bytes())
        for position in range(0, len(content), 41):
            file.write_bytes(content[:position] + bytes([content[position] ^ 16]) + content[position + 1 :])
            assert {path: FileHashes(store).of(path) for path in images} == expected(images)
        file.write_bytes(content[:-1])
        assert {path: FileHashes(store).of(path) for path in images} == expected(images)


@pytest.mark.usefixtures("settled")
def test_where_nothing_can_be_stored(tmp_path: Path, images: list[Path]) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert all_hashes(images, tmp_path / "file" / "store") == expected(images)


@pytest.mark.usefixtures("settled")
def test_missing_files_are_named_each_time(tmp_path: Path, images: list[Path]) -> None:
    images[1].unlink()
    for _ in range(2):
        digests, bad = image_digests(images, tmp_path / "store")
        assert list(digests) == [0, 2, 3]
        assert bad == {1: f"{images[1]} cannot be read: No such file or directory."}
    images[1].write_bytes(b"new")
    assert image_digests(images, tmp_path / "store") == image_digests(images)


@given(st.binary(max_size=9), st.integers(0, 12), st.integers(1, 4))
def test_all_of_a_file_is_read(tmp_path_factory: pytest.TempPathFactory, content: bytes, size: int, most: int) -> None:
    """Also where the size is wrong, because the file has changed, and where the system gives less than asked for."""
    path = tmp_path_factory.getbasetemp() / "content.jpg"
    path.write_bytes(content)
    read = os.read
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "read", lambda descriptor, count: read(descriptor, min(count, most)))
        assert file_hashes.read_content(str(path), size) == content
