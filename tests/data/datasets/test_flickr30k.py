"""Flickr30k with Karpathy's file."""

from __future__ import annotations

from pathlib import Path

import pytest

from captioner.config import Flickr30kConfig
from captioner.data.datasets.registry import available_splits, load_dataset
from captioner.errors import DataError
from tests.data.tiny import write_flickr30k


def test_splits(tmp_path: Path) -> None:
    write_flickr30k(tmp_path / "dataset_flickr30k.json")
    config = Flickr30kConfig(root=str(tmp_path))
    assert available_splits(config) == ["train", "val", "test"]
    train = load_dataset(config, "train")
    assert [image.image_id for image in train] == ["1000092795", "1000344755"]
    assert train.images[0].captions == tuple(f"Caption {i} ." for i in range(5))
    assert "29,000" in train.notices[0]


def test_the_file_may_be_elsewhere(tmp_path: Path) -> None:
    write_flickr30k(tmp_path / "dataset_flickr30k.json")
    (tmp_path / "elsewhere").mkdir()
    elsewhere = (tmp_path / "dataset_flickr30k.json").rename(tmp_path / "elsewhere/splits.json")
    (tmp_path / "flickr30k-images").rename(tmp_path / "Images")
    with pytest.raises(DataError, match=r"has no dataset_flickr30k\.json"):
        load_dataset(Flickr30kConfig(root=str(tmp_path)), "val")
    for given in ("elsewhere/splits.json", str(elsewhere)):
        assert len(load_dataset(Flickr30kConfig(root=str(tmp_path), karpathy=given), "val")) == 1
    with pytest.raises(DataError, match="is a folder"):
        load_dataset(Flickr30kConfig(root=str(tmp_path), karpathy="elsewhere"), "val")
