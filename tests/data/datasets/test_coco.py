"""COCO's official layout, Karpathy's splits, and errors for invalid files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.config import CocoConfig
from captioner.data.dataset import Box
from captioner.data.datasets.coco import load_boxes
from captioner.data.datasets.coco_captions import read_captions
from captioner.data.datasets.registry import available_splits, load_dataset
from captioner.errors import CaptionerError, DataError
from tests.data.tiny import coco_captions, write_coco, write_images, write_json, write_text


def _config(root: Path, **settings: Any) -> CocoConfig:
    return CocoConfig(root=str(root), **settings)


@pytest.mark.parametrize("year", [2014, 2017])
def test_official_layout(tmp_path: Path, year: int, capsys: pytest.CaptureFixture[str]) -> None:
    write_coco(tmp_path, year)
    assert available_splits(_config(tmp_path)) == ["train", "val"]
    train, val = (load_dataset(_config(tmp_path), split) for split in ("train", "val"))
    assert (train.name, train.split, val.split) == (f"coco{year}", "train", "val")
    assert train.references == {i: [f"a dog {i}", f"a cat {i}"] for i in (1, 2, 3)}
    assert [image.image_id for image in val] == [4, 5]
    assert all(image.path.is_file() and image.path.parent.name == f"train{year}" for image in train)
    assert "Karpathy" in " ".join(val.notices)
    assert bool(train.notices) == (year == 2017)
    assert capsys.readouterr() == ("", "")  # pycocotools prints messages


def test_images_may_be_in_a_folder_images(tmp_path: Path) -> None:
    write_coco(tmp_path)
    (tmp_path / "images").mkdir()
    for part in ("train2017", "val2017"):
        (tmp_path / part).rename(tmp_path / "images" / part)
    assert len(load_dataset(_config(tmp_path), "train")) == 3


def test_both_years(tmp_path: Path) -> None:
    for year in (2014, 2017):
        write_coco(tmp_path, year)
    both = load_dataset(_config(tmp_path), "train")
    assert both.name == "coco2017"
    assert any("data.year" in notice for notice in both.notices)
    chosen = load_dataset(_config(tmp_path, year=2014), "train")
    assert (chosen.name, chosen.notices) == ("coco2014", ())


def test_only_val_exists(tmp_path: Path) -> None:
    write_coco(tmp_path)
    (tmp_path / "annotations/captions_train2017.json").unlink()
    assert available_splits(_config(tmp_path)) == ["val"]
    with pytest.raises(DataError, match=r"no split 'train' in coco .*Available: val\."):
        load_dataset(_config(tmp_path), "train")


# ------------------------------------------------------------------------------------------ wrong


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("", "is not JSON"),
        ("[" * 100_000, "JSON"),
        ("1" * 10_000, "JSON"),
        ("[]", "is a list, not an object with 'images'"),
        ('{"annotations": []}', "has no 'images'"),
        ('{"images": []}', "has no 'annotations'"),
        ('{"images": {}, "annotations": []}', "'images' is an object. Expected a list"),
        ('{"images": [1], "annotations": []}', r"images\[0\] is an integer"),
        ('{"images": [{"id": 1}], "annotations": []}', r"images\[0\] has no 'file_name'"),
        ('{"images": [{"id": true, "file_name": "a"}], "annotations": []}', "'id' is a bool"),
        ('{"images": [{"id": 1.5, "file_name": "a"}], "annotations": []}', "'id' is a float"),
        ('{"images": [{"id": 1, "file_name": null}], "annotations": []}', "'file_name' is null. Expected a string"),
        ('{"images": [{"id": 1, "file_name": "../a"}], "annotations": []}', "is outside of"),
        ('{"images": [{"id": 1, "file_name": "a\\u0000"}], "annotations": []}', "not the name of an image"),
        ('{"images": [{"id": 1, "file_name": "\\ud800"}], "annotations": []}', "incomplete character"),
        ('{"images": [], "annotations": [{"id": 1, "image_id": 5, "caption": "x"}]}', "not among its images"),
        ('{"images": [{"id": "1", "file_name": "a"}], "annotations": [{"image_id": 1, "caption": "x"}]}', "not among"),
        ('{"images": [{"id": 1, "file_name": "a"}], "annotations": [{"image_id": 1}]}', "has no 'caption'"),
        (
            '{"images": [{"id": 1, "file_name": "a"}, {"id": 1, "file_name": "b"}], "annotations": []}',
            "of an earlier image",
        ),
        ('{"images": [], "annotations": []}', "is empty"),
    ],
)
def test_broken_annotations(tmp_path: Path, content: str, message: str) -> None:
    write_coco(tmp_path)
    path = write_text(tmp_path / "annotations/captions_val2017.json", content)
    with pytest.raises(DataError, match=message) as caught:
        load_dataset(_config(tmp_path), "val")
    assert "empty" in message or path.name in str(caught.value) or str(tmp_path) in str(caught.value)


def test_truncated_annotations_say_where(tmp_path: Path) -> None:
    write_coco(tmp_path)
    path = tmp_path / "annotations/captions_val2017.json"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"at line 1, column \d+. Is the download"):
        load_dataset(_config(tmp_path), "val")
    path.write_bytes(b"\xff\xfe{}")
    with pytest.raises(DataError, match="not UTF-8"):
        load_dataset(_config(tmp_path), "val")


def test_missing_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.root is not set"):
        load_dataset(CocoConfig(), "val")
    with pytest.raises(DataError, match="does not exist"):
        load_dataset(_config(tmp_path / "none"), "val")
    with pytest.raises(DataError, match=r"captions_train2017\.json"):
        load_dataset(_config(tmp_path), "val")
    write_coco(tmp_path, 2014)
    with pytest.raises(DataError, match=r"no COCO captions of 2017 \(only of 2014\)"):
        load_dataset(_config(tmp_path, year=2017), "val")


_LEAVES = st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=3)
_KEYS = st.sampled_from(["images", "annotations", "id", "file_name", "image_id", "caption", "split", "categories", "x"])
_JSON = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=5), max_leaves=15
)


def _outcome(read: Callable[[], Any]) -> Any:
    """The data set, or the message of the DataError; other exceptions fail the test."""
    try:
        return read()
    except CaptionerError as error:
        return str(error)


@given(content=st.dictionaries(_KEYS, _JSON, max_size=4) | _JSON)
@settings(max_examples=60, deadline=None)
def test_any_json_is_read_or_a_data_error(tmp_path_factory: pytest.TempPathFactory, content: Any) -> None:
    path = write_json(tmp_path_factory.getbasetemp() / "fuzz.json", content)
    outcome = _outcome(lambda: read_captions(path))
    if isinstance(outcome, str):
        assert "fuzz.json" in outcome
    else:
        assert [entry.image_id for entry in outcome] == [image["id"] for image in content["images"]]


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_one_thing_changed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Replace any value of a valid file by another: it is read, or a DataError."""
    root = tmp_path_factory.mktemp("changed")
    content = coco_captions({4: ["a"], 5: ["b", "c"]}, lambda number: f"{number}.png")
    write_images(root / "val2017", ["4.png", "5.png"])
    record = data.draw(st.sampled_from([content, *content["images"], *content["annotations"]]))
    record[data.draw(st.sampled_from(sorted(record)))] = data.draw(_JSON)
    write_json(root / "annotations/captions_val2017.json", content)
    outcome = _outcome(lambda: load_dataset(_config(root), "val"))
    assert str(root) in outcome if isinstance(outcome, str) else 1 <= len(outcome) <= 2


# --------------------------------------------------------------------------------------- Karpathy


def _karpathy_json(path: Path, ids: dict[str, list[int]], folder: str = "val2014") -> Path:
    images = [
        {
            "filename": f"COCO_{folder}_{image_id:012d}.jpg",
            "filepath": folder,
            "cocoid": image_id,
            "split": split,
            "sentences": [{"raw": f"caption of {image_id}", "tokens": []}],
        }
        for split, members in ids.items()
        for image_id in members
    ]
    return write_json(path, {"images": images, "dataset": "coco"})


KARPATHY = {"train": [1], "restval": [2, 3], "val": [4], "test": [5, 6]}


@pytest.mark.parametrize("given_path", ["karpathy/dataset_coco.json", None])
def test_karpathy_json(tmp_path: Path, given_path: str | None) -> None:
    path = _karpathy_json(tmp_path / "karpathy/dataset_coco.json", KARPATHY)
    write_images(tmp_path / "val2014", [f"COCO_val2014_{number:012d}.jpg" for number in range(1, 7)])
    config = _config(tmp_path, karpathy=given_path or str(path))
    assert available_splits(config) == ["train", "val", "test"]
    ids = {split: [image.image_id for image in load_dataset(config, split)] for split in ("train", "val", "test")}
    assert ids == {"train": [1, 2, 3], "val": [4], "test": [5, 6]}
    test = load_dataset(config, "test")
    assert test.name == "coco-karpathy"
    assert test.references == {5: ["caption of 5"], 6: ["caption of 6"]}
    assert "train 3, val 1, test 2" in test.notices[0]
    assert "113,287" in test.notices[0]


def test_karpathy_json_on_the_images_of_2017(tmp_path: Path) -> None:
    _karpathy_json(tmp_path / "dataset_coco.json", KARPATHY)
    write_images(tmp_path / "train2017", [f"{number:012d}.jpg" for number in (1, 2, 3, 4, 5)])
    write_images(tmp_path / "val2017", [f"{6:012d}.jpg"])
    test = load_dataset(_config(tmp_path, karpathy="dataset_coco.json"), "test")
    assert [image.path.parent.name for image in test] == ["train2017", "val2017"]


@pytest.mark.parametrize("year", [2014, 2017])
def test_karpathy_lists(tmp_path: Path, year: int) -> None:
    write_coco(tmp_path, year)
    lists = {"train": [1], "restval": [2], "val": [5, 4], "test": [3, 77]}
    for part, ids in lists.items():
        names = [f"COCO_val2014_{image_id:012d}.jpg\n" for image_id in ids]
        write_text(tmp_path / f"splits/coco_{part}.txt", "".join(names))
    config = _config(tmp_path, karpathy="splits")
    assert [image.image_id for image in load_dataset(config, "train")] == [1, 2]
    assert [image.image_id for image in load_dataset(config, "val")] == [5, 4]
    test = load_dataset(config, "test")
    assert test.references == {3: ["a dog 3", "a cat 3"]}
    assert any("Only 1 of the 2 images" in notice for notice in test.notices)
    (tmp_path / "splits/coco_restval.txt").unlink()
    assert len(load_dataset(config, "val")) == 2
    with pytest.raises(DataError, match="coco_train and coco_restval"):
        load_dataset(config, "train")


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ({"split": "trian", "filename": "a.jpg", "sentences": []}, "the split is 'trian'"),
        ({"split": "val", "sentences": []}, "has no 'filename'"),
        ({"split": "val", "filename": "a.jpg"}, "has no 'sentences'"),
        ({"split": "val", "filename": "a.jpg", "sentences": [{"tokens": []}]}, "has no 'raw'"),
        ({"split": "val", "filename": "../a.jpg", "sentences": []}, "is outside of"),
        ({"split": "val", "filename": "a.jpg", "filepath": "../b", "sentences": []}, "is outside of"),
        ({"split": "val", "filename": "a.jpg", "cocoid": "7", "sentences": []}, "'cocoid' is a string"),
        ({"split": "test", "filename": "a.jpg", "sentences": []}, "empty"),
    ],
)
def test_broken_karpathy_json(tmp_path: Path, image: dict[str, Any], message: str) -> None:
    write_json(tmp_path / "k.json", {"images": [image]})
    with pytest.raises(DataError, match=message):
        load_dataset(_config(tmp_path, karpathy="k.json"), "val")


def test_karpathy_file_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.karpathy=k\.json does not exist"):
        load_dataset(_config(tmp_path, karpathy="k.json"), "val")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="has no split"):
        load_dataset(_config(tmp_path, karpathy="empty"), "val")
    write_coco(tmp_path)
    write_text(tmp_path / "lists/coco_val.txt", "image.jpg\n")
    with pytest.raises(DataError, match=r"coco_val\.txt, entry 1: 'image\.jpg' is no COCO file name"):
        load_dataset(_config(tmp_path, karpathy="lists"), "val")
    write_text(tmp_path / "lists/coco_val.txt", "COCO_val2014_000000000099.jpg\n")
    with pytest.raises(DataError, match="None of the 1 images"):
        load_dataset(_config(tmp_path, karpathy="lists"), "val")


# ------------------------------------------------------------------------------------------ boxes


def _instances(image_id: int) -> dict[str, Any]:
    return {
        "categories": [{"id": 18, "name": "dog"}],
        "annotations": [
            {"image_id": image_id, "category_id": 18, "bbox": [1, 2.5, 3, 4]},
            {"image_id": 99, "category_id": 18, "bbox": [0, 0, 1, 1]},
        ],
    }


def test_boxes(tmp_path: Path) -> None:
    write_coco(tmp_path)
    assert load_boxes(_config(tmp_path), "val") == {}
    write_json(tmp_path / "annotations/instances_val2017.json", _instances(4))
    write_json(tmp_path / "annotations/instances_train2017.json", _instances(2))
    assert load_boxes(_config(tmp_path), "val") == {4: (Box("dog", 1.0, 2.5, 3.0, 4.0),)}
    write_text(tmp_path / "lists/coco_val.txt", "COCO_val2014_000000000002.jpg\nCOCO_val2014_000000000004.jpg\n")
    assert set(load_boxes(_config(tmp_path, karpathy="lists"), "val")) == {2, 4}


@pytest.mark.parametrize("box", [[1, 2, 3], [1, 2, 3, "4"], "1234", [1, 2, 3, None]])
def test_broken_boxes(tmp_path: Path, box: Any) -> None:
    write_coco(tmp_path)
    content = _instances(4)
    content["annotations"][0]["bbox"] = box
    write_json(tmp_path / "annotations/instances_val2017.json", content)
    with pytest.raises(DataError, match="bbox"):
        load_boxes(_config(tmp_path), "val")
    content["annotations"][0].update(bbox=[1, 2, 3, 4], category_id=5)
    write_json(tmp_path / "annotations/instances_val2017.json", content)
    with pytest.raises(DataError, match="category"):
        load_boxes(_config(tmp_path), "val")


# -------------------------------------------------------------------------------------- real data


def test_real_files(real_data: Path) -> None:
    config = _config(real_data / "coco_mini")
    train, val = (load_dataset(config, split) for split in ("train", "val"))
    assert (len(train), len(val)) == (129, 30)
    for dataset in (train, val):
        raw = json.loads((real_data / f"coco_mini/annotations/captions_{dataset.split}2017.json").read_bytes())
        captions: dict[int, list[str]] = {image["id"]: [] for image in raw["images"]}
        for annotation in raw["annotations"]:
            captions[annotation["image_id"]].append(annotation["caption"])
        assert dataset.references == captions


def test_real_karpathy_lists(real_data: Path) -> None:
    config = _config(real_data / "coco_mini", karpathy=str(real_data / "coco_text/karpathy"))
    counts = {split: len(load_dataset(config, split)) for split in available_splits(config)}
    assert sum(counts.values()) == 129 + 30  # every image of 2017 is in one of Karpathy's splits
