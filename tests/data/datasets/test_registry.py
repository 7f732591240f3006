"""Checks for all data sets: names of splits, missing images, blank captions, the limit, unique ids."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from captioner.config import DATASETS, CocoConfig, DataConfig, Flickr8kConfig, FolderConfig, ScenesConfig
from captioner.data.datasets.registry import (
    available_splits,
    load_dataset,
    missing_images,
    read_split,
)
from captioner.errors import ConfigError, DataError
from captioner.registry import load_object
from captioner.schema import data_settings, to_plain
from tests.data.tiny import write_images, write_text

NAMES = ["a.png", "b.png", "c.png", "d.png"]


def _folder(root: Path, **settings: Any) -> FolderConfig:
    write_images(root, NAMES)
    write_text(root / "captions.csv", "image,caption,split\n" + "".join(f"{name},x,train\n" for name in NAMES))
    return FolderConfig(root=str(root), **settings)


def _ids(config: DataConfig) -> list[int | str]:
    return [image.image_id for image in load_dataset(config, "train")]


@pytest.mark.parametrize("name", DATASETS)
def test_every_data_set_has_a_reader(name: str) -> None:
    assert DATASETS[name]().name == name
    reader = load_object(DATASETS[name].reader)
    assert callable(reader.available_splits)
    assert callable(reader.read_split)


def test_limit(tmp_path: Path) -> None:
    config = _folder(tmp_path, limit=2)
    assert _ids(config) == ["a", "b"]
    assert _ids(dataclasses.replace(config, limit=100)) == ["a", "b", "c", "d"]


def test_missing_images(tmp_path: Path) -> None:
    config = _folder(tmp_path)
    (tmp_path / "b.png").unlink()
    with pytest.raises(DataError, match=rf"1 of the 4 images .* not on disk \({tmp_path}/b\.png\)"):
        load_dataset(config, "train")
    assert [image.image_id for image in missing_images(read_split(config, "train"))] == ["b"]
    assert _ids(dataclasses.replace(config, limit=1)) == ["a"]  # b is beyond the limit
    skipping = load_dataset(dataclasses.replace(config, on_bad_image="skip", limit=2), "train")
    assert [image.image_id for image in skipping] == ["a", "c"]
    assert "1 of the 4 images" in skipping.notices[0]


def test_all_images_missing(tmp_path: Path) -> None:
    config = _folder(tmp_path)
    for name in NAMES:
        (tmp_path / name).unlink()
    with pytest.raises(DataError, match=r"4 of the 4 .*c\.png and 1 more"):
        load_dataset(config, "train")
    with pytest.raises(DataError, match="is empty"):
        load_dataset(dataclasses.replace(config, on_bad_image="skip"), "train")


def test_names_that_no_disk_can_hold(tmp_path: Path) -> None:
    config = _folder(tmp_path)
    write_text(tmp_path / "captions.csv", f"image,caption,split\n{'x' * 5000}.png,x,train\n")
    with pytest.raises(DataError, match="not on disk"):
        load_dataset(config, "train")


def test_blank_captions_and_images_without(tmp_path: Path) -> None:
    config = _folder(tmp_path)
    write_text(tmp_path / "captions.csv", "image,caption,split\na.png,,train\na.png, x ,train\nb.png,  ,train\n")
    train = load_dataset(config, "train")
    assert train.references == {"a": [" x "], "b": []}
    assert train.notices == ("2 blank captions of train are left out.", "1 of 2 images of train have no caption.")
    write_text(tmp_path / "captions.csv", "image,caption,split\na.png,,train\n")
    with pytest.raises(DataError, match="images but no captions"):
        load_dataset(config, "train")


def test_ids_are_unique(tmp_path: Path) -> None:
    write_images(tmp_path / "Images", ["a.jpg", "a.png"])
    write_text(tmp_path / "Flickr8k.token.txt", "a.jpg#0\tx\na.png#0\ty\n")
    write_text(tmp_path / "Flickr_8k.trainImages.txt", "a.jpg\na.png\n")
    with pytest.raises(DataError, match=r"'a' \(a\.jpg, a\.png\)"):
        load_dataset(Flickr8kConfig(root=str(tmp_path)), "train")


def test_splits_that_do_not_exist(tmp_path: Path) -> None:
    config = _folder(tmp_path)
    with pytest.raises(DataError, match=r"no split 'test' in folder .*Available: train\."):
        load_dataset(config, "test")
    with pytest.raises(DataError, match=r"'trian' .*Did you mean train\?"):
        load_dataset(config, "trian")


def test_the_name_and_the_settings_must_agree() -> None:
    with pytest.raises(ConfigError, match="data=coco"):
        load_dataset(Flickr8kConfig(name="coco"), "train")
    with pytest.raises(ConfigError, match="DataConfig"):
        available_splits(DataConfig(name="folder"))


def test_settings_from_plain_values() -> None:
    assert data_settings({"name": "coco", "root": "DIR", "year": 2014}) == CocoConfig(root="DIR", year=2014)
    for name in DATASETS:
        assert data_settings(to_plain(DATASETS[name]())) == DATASETS[name]()
        assert data_settings({"name": name}) == DATASETS[name]()
    with pytest.raises(ConfigError, match=r"data\.name='cocoa' does not exist\. Did you mean coco, cocotalk\?"):
        data_settings({"name": "cocoa"})
    with pytest.raises(ConfigError, match=r"data\.karpathy does not exist"):
        data_settings({"name": "flickr8k", "karpathy": "x"})
    for wrong in (None, [], {}, {"name": None}, {"name": ["coco"]}):
        with pytest.raises(ConfigError):
            data_settings(wrong)


def test_scenes(tmp_path: Path) -> None:
    config = ScenesConfig(root=str(tmp_path / "scenes"), train_size=3, val_size=2, test_size=2)
    assert available_splits(config) == ["train", "val", "test"]
    assert len(load_dataset(dataclasses.replace(config, limit=1), "dev")) == 1


def test_a_folder_where_the_captions_should_be(tmp_path: Path) -> None:
    (tmp_path / "annotations/captions_val2017.json").mkdir(parents=True)
    with pytest.raises(DataError, match="cannot be read"):
        load_dataset(CocoConfig(root=str(tmp_path)), "val")
