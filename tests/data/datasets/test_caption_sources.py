"""Which files hold the captions: named by settings, or found by their names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from captioner.config import FolderConfig
from captioner.data.datasets.caption_sources import find_sources, split_in_name
from captioner.data.datasets.registry import available_splits, load_dataset
from captioner.errors import DataError
from tests.data.tiny import coco_captions, write_images, write_json, write_text


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train.csv", "train"),
        ("captions_train2017.json", "train"),
        ("TextCaps_0.1_val.json", "val"),
        ("validation-00000-of-00002-ab12cd.parquet", "val"),
        ("caption_train_annotations_20170902.json", "train"),
        ("dev.tsv", "val"),
        ("Test-Images", "test"),
        ("trainer.csv", None),
        ("train_val.json", None),
        ("latest.json", None),
    ],
)
def test_the_split_in_a_name(name: str, split: str | None) -> None:
    assert split_in_name(name) == split


def _sources(root: Path, **settings: str) -> list[tuple[str, str | None]]:
    found = find_sources(root, FolderConfig(root=str(root), **settings))
    return [(source.path.relative_to(root).as_posix(), source.split) for source in found]


def _touch(root: Path, *names: str) -> None:
    for name in names:
        write_text(root / name, "")


def test_found_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    _touch(tmp_path / "a", "train.csv", "dev.csv", "notes.md", "instances_train.json")
    assert _sources(tmp_path / "a") == [("train.csv", "train"), ("dev.csv", "val")]
    _touch(tmp_path / "a", "metadata.csv")  # one file for all: nobody knows which is meant
    with pytest.raises(DataError, match=r"captions files \(metadata.csv and dev.csv, train.csv\)\. Set data.captions"):
        _sources(tmp_path / "a")
    assert _sources(tmp_path / "a", captions="metadata.csv") == [("metadata.csv", None)]

    (tmp_path / "b").mkdir()
    _touch(tmp_path / "b", "train.csv")  # no other split: the file of all images, whatever its name
    assert _sources(tmp_path / "b") == [("train.csv", None)]

    (tmp_path / "c").mkdir()
    _touch(
        tmp_path / "c",
        "data/train-00001-of-00002.parquet",
        "data/train-00000-of-00002.parquet",
        "data/test-00000-of-00001.parquet",
    )
    assert _sources(tmp_path / "c") == [
        ("data/train-00000-of-00002.parquet", "train"),
        ("data/train-00001-of-00002.parquet", "train"),
        ("data/test-00000-of-00001.parquet", "test"),
    ]

    (tmp_path / "d").mkdir()
    _touch(tmp_path / "d", "rows_train.csv", "rows_val.csv", "other_train.csv", "other_val.csv")
    with pytest.raises(DataError, match=r"several possible captions files per split .* Set data.train=FILE and"):
        _sources(tmp_path / "d")
    _touch(tmp_path / "d", "captions_train.json", "captions_val.json")  # this name is clear
    assert _sources(tmp_path / "d") == [("captions_train.json", "train"), ("captions_val.json", "val")]


def test_another_file_of_the_same_name_is_not_ignored(tmp_path: Path) -> None:
    """An old captions.csv must not win silently over the captions.json that was written today."""
    _touch(tmp_path, "captions.csv", "metadata.csv", "train.txt", "val.txt", "test.csv")
    assert _sources(tmp_path) == [("captions.csv", None)]
    _touch(tmp_path, "captions.json")
    with pytest.raises(DataError, match=r"several possible captions files \(captions.csv and captions.json\)"):
        _sources(tmp_path)


def test_named_by_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _touch(tmp_path, "x/one.csv", "x/two.csv", "y/metadata.jsonl")
    expected = [("x/one.csv", "train"), ("x/two.csv", "train"), ("y/metadata.jsonl", "val")]
    assert _sources(tmp_path, train="x/*.csv", val="y") == expected
    monkeypatch.chdir(tmp_path / "x")
    assert find_sources(tmp_path / "y", FolderConfig(root="y", test="one.csv"))[0].path == Path("one.csv")
    for pattern in ("none.csv", "none-*.csv"):
        with pytest.raises(DataError, match=rf"data.val={re.escape(pattern)} matches no file, neither in .* Expected"):
            _sources(tmp_path, val=pattern)


def test_an_empty_folder_says_what_is_in_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no captions file: it contains nothing, with 0 images"):
        _sources(tmp_path)
    write_images(tmp_path, ["a.jpg", "pets/b.jpg"])
    _touch(tmp_path, "readme.md")
    with pytest.raises(DataError, match=r"it contains a.jpg, pets/, readme.md, with 2 images. Expected captions.csv"):
        _sources(tmp_path)


def test_one_file_per_split(tmp_path: Path) -> None:
    """Images of the same name in the folders of two splits are two images."""
    for split, text in (("train", "a dog"), ("val", "a cat")):
        write_images(tmp_path / split, ["1.jpg"])
        write_text(tmp_path / f"{split}.csv", f"image,caption\n1.jpg,{text}\n")
    config = FolderConfig(root=str(tmp_path))
    assert available_splits(config) == ["train", "val"]
    for split, text in (("train", "a dog"), ("val", "a cat")):
        dataset = load_dataset(config, split)
        assert dataset.references == {"1": [text]}
        assert [image.path for image in dataset] == [tmp_path / split / "1.jpg"]
        assert dataset.notices == ()


def test_images_in_the_folder_of_their_split(tmp_path: Path) -> None:
    """Also with one file for all splits, and in images/SPLIT."""
    for split in ("train", "val"):
        write_images(tmp_path / "images" / split, [f"{split}.jpg"])
    write_text(tmp_path / "captions.csv", "image,caption,split\ntrain.jpg,x,train\nval.jpg,y,val\n")
    config = FolderConfig(root=str(tmp_path))
    assert [image.path for image in load_dataset(config, "val")] == [tmp_path / "images/val/val.jpg"]


def test_a_file_of_one_split_that_names_others(tmp_path: Path) -> None:
    write_text(tmp_path / "all.csv", "image,caption,split\na.jpg,x,train\nb.jpg,y,val\n")
    config = FolderConfig(root=str(tmp_path), train="all.csv")
    with pytest.raises(DataError, match=r"is used for train, but it names the splits .* also val. Set data.captions"):
        load_dataset(config, "train")


def test_captions_elsewhere_than_the_images(tmp_path: Path) -> None:
    write_images(tmp_path / "photos", ["a.jpg", "b.jpg"])
    path = write_json(
        tmp_path / "elsewhere/c.json", coco_captions({1: ["x"], 2: ["y"]}, {1: "a.jpg", 2: "b.jpg"}.__getitem__)
    )
    config = FolderConfig(root=str(tmp_path / "photos"), captions=str(path), val_fraction=0.0)
    assert load_dataset(config, "train").references == {1: ["x"], 2: ["y"]}


def test_a_folder_of_images_as_a_split(tmp_path: Path) -> None:
    write_images(tmp_path, ["new/a.jpg", "new/b.jpg", "c.jpg"])
    write_text(tmp_path / "captions.csv", "image,caption\nc.jpg,x\n")
    config = FolderConfig(root=str(tmp_path), train="captions.csv", test="new")
    assert available_splits(config) == ["train", "test"]
    with pytest.raises(DataError, match="has images but no captions"):
        load_dataset(config, "test")
    dataset = load_dataset(config, "test", need_captions=False)
    assert [image.image_id for image in dataset] == ["a", "b"]
    assert all(image.captions == () for image in dataset)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="is a folder without images"):
        load_dataset(FolderConfig(root=str(tmp_path), test="empty"), "test")
