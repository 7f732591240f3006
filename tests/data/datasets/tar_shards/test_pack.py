"""Any data set → tar shards → the same data set; and the format of the shards."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from captioner.config import CocoConfig, ShardsConfig
from captioner.data.dataset import CaptionDataset, CaptionedImage
from captioner.data.datasets.registry import load_dataset, read_split
from captioner.data.datasets.tar_shards import pack
from captioner.data.datasets.tar_shards.pack import pack_shards, packed_bytes
from captioner.errors import ConfigError, DataError, ImageError
from tests.data.tiny import jpeg, write_coco

IDS = st.integers(-5, 10**6) | st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=12)
CAPTIONS = st.text(st.characters(blacklist_categories=["Cs"]), max_size=20)


def dataset_of(path: Path, captions: dict[int | str, tuple[str, ...]]) -> CaptionDataset:
    return CaptionDataset(
        "mine", "train", tuple(CaptionedImage(key, path, captions) for key, captions in captions.items())
    )


def unpacked(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]


@given(st.dictionaries(IDS, st.lists(CAPTIONS, max_size=3).map(tuple), min_size=1, max_size=6), st.integers(1, 7))
@settings(deadline=None, max_examples=40)
def test_packing_loses_nothing(
    tmp_path_factory: pytest.TempPathFactory, captions: dict[int | str, tuple[str, ...]], pairs: int
) -> None:
    folder = tmp_path_factory.mktemp("packed")
    path = folder / "image.jpg"
    path.write_bytes(jpeg())
    dataset = dataset_of(path, captions)
    paths = pack_shards(dataset, folder, pairs)
    assert packed_bytes(dataset, pairs) == sum(path.stat().st_size for path in paths)
    kept = {key: [text for text in texts if text.strip()] for key, texts in captions.items()}
    found = read_split(ShardsConfig(root=str(folder), num_workers=0), "train")
    kept = {key: [caption for caption in captions if caption.strip()] for key, captions in captions.items()}
    assert found.references == kept
    assert [type(image.image_id) for image in found] == [type(key) for key in captions]
    assert all(image.path.read_bytes() == jpeg() for image in found)


def test_coco_keeps_its_ids(tmp_path: Path) -> None:
    write_coco(tmp_path / "coco")
    coco = load_dataset(CocoConfig(root=str(tmp_path / "coco")), "train")
    pack_shards(coco, tmp_path / "shards", 2)
    assert load_dataset(ShardsConfig(root=str(tmp_path / "shards")), "train").references == coco.references


def test_the_format_is_that_of_webdataset(tmp_path: Path) -> None:
    """Key and suffix as in webdataset: .txt if it loses nothing, else .json."""
    image = tmp_path / "image.JPG"
    image.write_bytes(jpeg())
    captions: dict[int | str, tuple[str, ...]] = {"cat": ("a cat",), 7: ("a dog",), "a.b": ("x",), "two": ("x", "y")}
    (path,) = pack_shards(dataset_of(image, captions), tmp_path, 9)
    files = unpacked(path)
    assert list(files) == [
        *("cat.jpg", "cat.txt", "000000000007.jpg", "000000000007.json"),
        *("pair.jpg", "pair.json", "two.jpg", "two.json"),
    ]
    assert files["cat.jpg"] == jpeg()
    assert files["cat.txt"] == b"a cat"
    assert json.loads(files["two.json"]) == {"image_id": "two", "captions": ["x", "y"]}
    assert json.loads(files["000000000007.json"])["image_id"] == 7


def test_the_same_bytes_each_time(tmp_path: Path) -> None:
    image = tmp_path / "image.jpg"
    image.write_bytes(jpeg())
    dataset = dataset_of(image, {"a": ("x",), "b": ("y", "z")})
    (first,), (second,) = (pack_shards(dataset, tmp_path / name, 9) for name in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()


def test_an_image_without_a_suffix_gets_one(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "image", "PNG")
    (path,) = pack_shards(dataset_of(tmp_path / "image", {"a": ("x",)}), tmp_path, 9)
    assert list(unpacked(path)) == ["a.png", "a.txt"]
    (tmp_path / "image").write_bytes(b"none")
    with pytest.raises(ImageError, match="is not an image"):
        pack_shards(dataset_of(tmp_path / "image", {"a": ("x",)}), tmp_path / "other", 9)


def test_an_unfinished_pack_is_not_taken_for_the_whole(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.jpg").write_bytes(jpeg())
    images = tuple(CaptionedImage(name, tmp_path / f"{name}.jpg", ("x",)) for name in ("a", "b"))
    dataset = CaptionDataset("mine", "train", images)
    (tmp_path / "b.jpg").rename(tmp_path / "gone.jpg")
    with pytest.raises(ImageError, match=r"b\.jpg cannot be read"):
        pack_shards(dataset, tmp_path / "out", 1)
    for config in (ShardsConfig(root=str(tmp_path / "out")), ShardsConfig(train=str(tmp_path / "out" / "*.tar"))):
        with pytest.raises(DataError, match=r"only a part of the shards of train.*Run it again"):
            read_split(config, "train")
    (tmp_path / "gone.jpg").rename(tmp_path / "b.jpg")
    assert len(pack_shards(dataset, tmp_path / "out", 1)) == 2
    assert [image.image_id for image in read_split(ShardsConfig(root=str(tmp_path / "out")), "train")] == ["a", "b"]


def test_a_second_pack_does_not_mix_its_shards_with_those_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With other sizes, the last shards of one would stay behind those of the other."""
    image = tmp_path / "image.jpg"
    image.write_bytes(jpeg())
    dataset = dataset_of(image, {number: (f"number {number}",) for number in range(6)})
    write, refused = pack._write_shard, []

    def write_meanwhile(path: Path, *arguments: Any) -> None:
        with pytest.raises(DataError, match="Another process is packing this split into"):
            pack_shards(dataset, tmp_path / "out", 1)
        refused.append(path.name)
        write(path, *arguments)

    monkeypatch.setattr(pack, "_write_shard", write_meanwhile)
    paths = pack_shards(dataset, tmp_path / "out", 3)
    assert refused == ["train-00000.tar", "train-00001.tar"]
    assert sorted((tmp_path / "out").iterdir()) == paths


def test_mistakes_leave_nothing_behind(tmp_path: Path) -> None:
    image = tmp_path / "image.jpg"
    image.write_bytes(jpeg())
    dataset = dataset_of(image, {"a": ("x",), "b": ("y",)})
    with pytest.raises(ConfigError, match="0 pairs per shard"):
        pack_shards(dataset, tmp_path / "out", 0)
    pack_shards(dataset, tmp_path / "out", 1)
    with pytest.raises(DataError, match=r"already holds shards of train \(train-00000\.tar, train-00001\.tar\)"):
        pack_shards(dataset, tmp_path / "out", 1)
    image.unlink()
    with pytest.raises(ImageError, match=r"image\.jpg cannot be read"):
        packed_bytes(dataset, 1)
    with pytest.raises(ImageError, match=r"image\.jpg cannot be read"):
        pack_shards(dataset, tmp_path / "other", 1)
    assert list((tmp_path / "other").iterdir()) == []
    with pytest.raises(DataError, match="cannot be written"):
        pack_shards(dataset, tmp_path / "out" / "train-00000.tar" / "inside", 1)
