"""Flickr30k by Karpathy's file."""

from __future__ import annotations

from pathlib import Path

import pytest

from captioner.config import Flickr30kConfig
from captioner.data.build import available_splits, load_dataset
from captioner.errors import DataError
from tests.data.tiny import write_json, write_pictures


def _write(path: Path) -> None:
    parts = {"1000092795.jpg": "train", "10002456.jpg": "val", "1000268201.jpg": "test", "1000344755.jpg": "train"}
    images = [
        {"filename": name, "split": part, "imgid": number, "sentences": [{"raw": f"Caption {i} ."} for i in range(5)]}
        for number, (name, part) in enumerate(parts.items())
    ]
    write_json(path, {"images": images, "dataset": "flickr30k"})
    write_pictures(path.parent / "flickr30k-images", list(parts))


def test_splits(tmp_path: Path) -> None:
    _write(tmp_path / "dataset_flickr30k.json")
    config = Flickr30kConfig(root=str(tmp_path))
    assert available_splits(config) == ["train", "val", "test"]
    train = load_dataset(config, "train")
    assert [image.image_id for image in train] == ["1000092795", "1000344755"]
    assert train.images[0].captions == tuple(f"Caption {i} ." for i in range(5))
    assert "29,000" in train.notices[0]


def test_the_file_may_lie_elsewhere(tmp_path: Path) -> None:
    _write(tmp_path / "dataset_flickr30k.json")
    (tmp_path / "elsewhere").mkdir()
    elsewhere = (tmp_path / "dataset_flickr30k.json").rename(tmp_path / "elsewhere/splits.json")
    (tmp_path / "flickr30k-images").rename(tmp_path / "Images")
    with pytest.raises(DataError, match=r"has no dataset_flickr30k\.json"):
        load_dataset(Flickr30kConfig(root=str(tmp_path)), "val")
    for given in ("elsewhere/splits.json", str(elsewhere)):
        assert len(load_dataset(Flickr30kConfig(root=str(tmp_path), karpathy=given), "val")) == 1
    with pytest.raises(DataError, match="is a folder"):
        load_dataset(Flickr30kConfig(root=str(tmp_path), karpathy="elsewhere"), "val")
