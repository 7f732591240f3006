"""A data set of another package: the example of docs/extending.md is installed and trained on."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from captioner.config import DATASETS, CacheConfig, DataConfig, TrainConfig
from captioner.data.check.check_dataset import check_dataset
from captioner.data.datasets.registry import available_splits, check_has_boxes, load_dataset, read_split
from captioner.errors import ConfigError, DataError
from captioner.registry import load_object
from captioner.schema import data_settings, to_plain
from captioner.training.loop import train
from captioner.training.setup import prepare
from tests.tiny import tiny_config, with_trainer, write_tiny_data

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "extending.md"


def example() -> str:
    """The Python file in the documentation's section on data sets."""
    section = DOCUMENTATION.read_text(encoding="utf-8").partition("## A data set\n")[2]
    found = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of installed packages with `my_captioners`, which declares the entry point `my_data`."""
    folder = tmp_path / "site-packages"
    metadata = folder / "my_captioners-1.0.dist-info"
    metadata.mkdir(parents=True)
    (folder / "my_captioners.py").write_text(example())
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my_captioners\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[captioner.datasets]\nmy_data = my_captioners:MyDataConfig\n")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(DATASETS, "_plugins", None)  # entry points are read again
    yield folder
    sys.modules.pop("my_captioners", None)


@pytest.fixture
def data(tmp_path: Path, package: Path) -> DataConfig:
    """Settings of the example for images with two captions each, in train.tsv and val.tsv."""
    folder = write_tiny_data(tmp_path / "data", images=24)
    for split in ("train", "val"):
        rows = ["\t".join([image.path.name, *image.captions]) for image in read_split(folder, split)]
        (tmp_path / "data" / f"{split}.tsv").write_text("\n".join(rows))
    settings = data_settings({"name": "my_data", "root": str(tmp_path / "data"), "num_workers": 0})
    assert type(settings).__name__ == "MyDataConfig"
    return settings


def settings_for(data: DataConfig, folder: Path) -> TrainConfig:
    config = replace(tiny_config(write_tiny_data(folder / "unused", 8)), data=data)
    return with_trainer(replace(config, cache=CacheConfig(directory=str(folder / "cache"))), max_epochs=1)


def test_the_documented_data_set_is_read_and_checked(data: DataConfig) -> None:
    assert available_splits(data) == ["train", "val"]
    dataset = load_dataset(replace(data, limit=2), "dev")
    assert (dataset.name, dataset.split, len(dataset)) == ("my_data", "val", 2)
    assert dataset.images[0].captions == ("a red half on the left", "the left is red")
    report = check_dataset(data, tiny_config(write_tiny_data(Path(data.root or "") / "x", 8)).tokenizer, progress=False)
    assert report.sizes == {"train": (16, 32), "val": (8, 16)}
    assert not report.errors
    assert data_settings(to_plain(data)) == data


def test_the_folder_of_a_data_set_is_checked(data: DataConfig) -> None:
    with pytest.raises(DataError, match=r"data\.root is not set\. Give data\.root=DIR"):
        available_splits(replace(data, root=None))
    with pytest.raises(DataError, match=r"data\.root=/nowhere does not exist"):
        load_dataset(replace(data, root="/nowhere"), "val")
    with pytest.raises(DataError, match="has no split"):
        load_dataset(replace(data, root=str(Path(__file__).parent)), "val")


def test_the_documented_data_set_is_trained_on(data: DataConfig, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    train(prepare(settings_for(data, tmp_path), run))
    assert (run / "checkpoints").is_dir()
    assert "on 16 images and 32 captions of my_data" in (run / "log.txt").read_text()


def test_a_data_set_registered_from_python(package: Path) -> None:
    settings = load_object("my_captioners:MyDataConfig")
    DATASETS.register("mine", settings)
    try:
        assert DATASETS["mine"] is settings
        with pytest.raises(ConfigError, match="is taken"):
            DATASETS.register("mine", settings)
    finally:
        DATASETS.unregister("mine")


def test_a_data_set_without_boxes(data: DataConfig) -> None:
    with pytest.raises(DataError, match=r"which data=my_data does not have\. Data sets with boxes: scenes, coco\."):
        check_has_boxes(data, "val")


@pytest.mark.parametrize(
    ("reader", "message"),
    [
        ("", r"MyDataConfig\.reader = '' of data\.name=my_data names no module"),
        ("my_missing_module", r"cannot be imported: No module named 'my_missing_module'"),
        ("json", "has no available_splits and no read_split"),
    ],
)
def test_readers_that_cannot_be_used(
    data: DataConfig, monkeypatch: pytest.MonkeyPatch, reader: str, message: str
) -> None:
    monkeypatch.setattr(type(data), "reader", reader)
    with pytest.raises(ConfigError, match=message):
        load_dataset(data, "train")


def test_a_package_that_fails_to_import(package: Path) -> None:
    (package / "my_captioners.py").write_text("import a_module_that_does_not_exist")
    with pytest.raises(ConfigError, match=r"data\.name=my_data cannot be used: the entry point .* of the package"):
        data_settings({"name": "my_data"})
    assert "my_data" in DATASETS
    assert "my_data" not in DATASETS.loadable()
