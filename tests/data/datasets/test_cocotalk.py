"""data=cocotalk: captions from `cocotalk.json` and `cocotalk_label.h5` are those that were written into them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("h5py")

import h5py

from captioner.config import CocotalkConfig
from captioner.data.datasets.registry import available_splits, load_dataset
from captioner.errors import DataError
from tests.data.datasets.cocotalk_files import CAPTIONS, write_cocotalk


def test_captions_are_those_of_the_labels(tmp_path: Path) -> None:
    config = write_cocotalk(tmp_path)
    assert available_splits(config) == ["train", "val", "test"]
    train = load_dataset(config, "train")
    assert train.references == {image_id: CAPTIONS[image_id][1] for image_id in (7, 8, 11)}
    assert [image.path for image in train][:2] == [tmp_path / "train/7.jpg", tmp_path / "restval/8.jpg"]
    assert load_dataset(config, "test").references == {10: ["a green half on the right"]}
    assert "cut at 6 words" in train.notices[0]


def change(folder: Path, **values: Any) -> None:
    with h5py.File(folder / "cocotalk_label.h5", "r+") as file:
        for name, value in values.items():
            del file[name]
            file[name] = np.array(value)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"labels": [[99, 0]] * 8}, "has the word 99, which .* does not have"),
        ({"label_start_ix": [1]}, "has the captions of 1 images, and the JSON file has 5"),
        ({"label_end_ix": [2, 3, 6, 7, 80]}, "has 8 captions, but label_end_ix goes to 80"),
    ],
)
def test_files_that_do_not_belong_together(tmp_path: Path, values: dict[str, Any], sentence: str) -> None:
    config = write_cocotalk(tmp_path)
    change(tmp_path, **values)
    with pytest.raises(DataError, match=sentence):
        load_dataset(config, "train")


def test_files_that_are_missing_or_broken(tmp_path: Path) -> None:
    config = write_cocotalk(tmp_path)
    (tmp_path / "cocotalk_label.h5").write_bytes(b"not HDF5")
    with pytest.raises(DataError, match=r"cocotalk_label\.h5 cannot be read"):
        load_dataset(config, "train")
    (tmp_path / "cocotalk_label.h5").unlink()
    with pytest.raises(DataError, match=r"has no cocotalk_label\.h5\. Set data\.labels=FILE"):
        load_dataset(config, "train")
    (tmp_path / "cocotalk.json").write_text("[]")
    with pytest.raises(DataError, match="expected an object with images and ix_to_word"):
        available_splits(config)
    with pytest.raises(DataError, match=r"data\.words=x\.json is neither in"):
        available_splits(CocotalkConfig(root=str(tmp_path), words="x.json"))
