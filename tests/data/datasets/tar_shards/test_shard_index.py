"""The index of a shard: its content, when it is used, and which archives are an error."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from captioner.data.datasets.tar_shards.shard_index import (
    MAX_CAPTION_BYTES,
    ROW_BYTES,
    PairText,
    ShardIndex,
    build_index,
    index_file,
    read_index,
)
from captioner.errors import DataError
from tests.data.datasets.tar_shards.tars import write_tar

CAT = [("cat.jpg", b"a cat's image"), ("cat.txt", b" a cat\n")]


def indexed(archive: Path) -> ShardIndex:
    build_index(archive)
    index = read_index(archive)
    assert index is not None
    return index


def captions(index: ShardIndex) -> dict[object, tuple[str, ...]]:
    return {text.image_id: text.captions for text in index.texts()}


def is_refused(index: ShardIndex) -> bool:
    with pytest.raises(DataError, match=r"is damaged\. Delete it"):
        list(index.texts())
    return True


def test_one_of_everything(tmp_path: Path) -> None:
    archive = write_tar(
        tmp_path / "shard.tar",
        [
            ("readme.md", b"of no interest"),
            ("._cat.jpg", b"which macOS adds"),
            *CAT,
            ("./pets/dog.PNG", b"a dog's"),
            ("pets/dog.seg.png", b"not the image"),
            ("late.webp", b"1"),
            ("pets/dog.json", json.dumps({"image_id": 7, "captions": ["a dog", "", "ein Hünd"]}).encode()),
            ("alone.txt", b"a caption of nothing"),
            ("silent.jpg", b"2"),
            ("silent.txt", b" \n"),
            ("both.jpg", b"3"),
            ("both.json", b'{"caption": "from the JSON file", "width": 3}'),
            ("both.txt", b"from the text"),
            ("plain.jpg", b"4"),
            ("plain.json", b'{"caption": null}'),
            ("plain.txt", "\ufeffbeside other things".encode()),
            ("late.txt", b"not beside its image"),
        ],
    )
    index = indexed(archive)
    assert captions(index) == {
        "cat": ("a cat",),
        7: ("a dog", "ein Hünd"),
        "late": ("not beside its image",),
        "silent": (),
        "both": ("from the JSON file",),
        "plain": ("beside other things",),
    }
    assert index.without_image == ("alone",)
    assert index.blank == 2
    assert index.text(1) == PairText(7, "./pets/dog.PNG", ("a dog", "ein Hünd"))
    assert [index.text(row) for row in range(len(index))] == list(index.texts())
    content = archive.read_bytes()
    images = [content[int(row["offset"]) :][: int(row["size"])] for row in index.rows]
    assert images == [b"a cat's image", b"a dog's", b"1", b"2", b"3", b"4"]


def test_an_index_is_not_used_for_a_changed_archive(tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "shard.tar", CAT)
    assert read_index(archive) is None
    assert len(indexed(archive)) == 1
    other = write_tar(tmp_path / "other" / "shard.tar", CAT)
    assert read_index(other) is None
    status = archive.stat()
    os.utime(archive, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert read_index(archive) is None
    write_tar(archive, [*CAT, ("dog.jpg", b"")])
    assert len(indexed(archive)) == 2


def test_a_damaged_index_is_never_used(tmp_path: Path) -> None:
    """A change of any byte is detected: when the index is opened, or for captions when they are read."""
    archive = write_tar(tmp_path / "shard.tar", CAT)
    good = list(indexed(archive).texts())
    file = index_file(archive)
    content = file.read_bytes()
    for place in range(0, len(content), 3):
        file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        index = read_index(archive)
        if index is not None:
            assert list(index.texts()) == good if place < index.texts_start else is_refused(index)
    for length in range(0, len(content), 3):
        file.write_bytes(content[:length])
        assert read_index(archive) is None


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ([*CAT, ("cat.txt", b"again")], r"cat\.txt is in the archive twice"),
        ([*CAT, ("cat.png", b"again")], r"cat\.png is a second image beside cat\.jpg"),
        ([("cat.txt", b"\xff")], r"cat\.txt is not UTF-8 text \(byte 0\)"),
        ([("cat.json", b"{")], r"cat\.json is not JSON"),
        ([("cat.json", b"[" * 100_000)], r"cat\.json is not JSON"),
        ([("cat.json", b"[1]")], r"holds a list\. Expected an object"),
        ([("cat.json", b'{"caption": 3}')], "'caption' is neither a string nor"),
        ([("cat.json", b'{"captions": ["a", 3]}')], "'captions' is neither a string nor"),
        ([("cat.json", b'{"captions": ["\\ud800"]}')], "incomplete character"),
        ([("cat.txt", b"a" * (MAX_CAPTION_BYTES + 1))], r"cat\.txt has 1,048,577 bytes"),
    ],
)
def test_invalid_pairs_are_named(tmp_path: Path, files: list[tuple[str, bytes]], sentence: str) -> None:
    archive = write_tar(tmp_path / "shard.tar", files)
    with pytest.raises(DataError, match=sentence):
        build_index(archive)
    assert read_index(archive) is None


def test_an_archive_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"shard\.tar cannot be read: No such file"):
        build_index(tmp_path / "shard.tar")


def test_a_cache_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = write_tar(tmp_path / "shard.tar", CAT)
    monkeypatch.setenv("CAPTIONER_CACHE", str(archive))  # a file
    with pytest.raises(DataError, match="CAPTIONER_CACHE"):
        build_index(archive)


def test_a_pair_takes_twenty_bytes_of_memory() -> None:
    """As docs/data.md states."""
    assert ROW_BYTES == 20


def test_a_part_between_key_and_suffix(tmp_path: Path) -> None:
    """`key.input.jpg` counts where there is no `key.jpg`; every text with such a part is a caption."""
    archive = write_tar(
        tmp_path / "shard.tar",
        [
            ("cat.input.jpg", b"1"),
            ("cat.en.txt", b"a cat"),
            ("cat.de.txt", b"eine Katze"),
            ("dog.jpg", b"2"),
            ("dog.thumbnail.jpg", b"3"),
            ("dog.mask.png", b"4"),
            ("dog.output.json", b'{"caption": "a dog", "image_id": 8}'),
            ("cow.jpg", b"5"),
            ("cow.txt", b"a cow"),
            ("cow.alt.txt", b"not this"),
        ],
    )
    index = indexed(archive)
    assert captions(index) == {"cat": ("a cat", "eine Katze"), 8: ("a dog",), "cow": ("a cow",)}
    content = archive.read_bytes()
    images = [content[int(row["offset"]) :][: int(row["size"])] for row in index.rows]
    assert sorted(images) == [b"1", b"2", b"5"]
    assert not index.without_image


def test_two_images_with_a_part_are_an_error(tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "shard.tar", [("a.input.jpg", b"1"), ("a.output.jpg", b"2")])
    with pytest.raises(DataError, match=r"a\.output\.jpg is a second image beside a\.input\.jpg"):
        build_index(archive)
