"""The user's own images and captions, in all formats."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.config import FolderConfig
from captioner.data.datasets.folder import read_split as read_folder
from captioner.data.datasets.registry import available_splits, load_dataset, read_split
from captioner.errors import CaptionerError, DataError
from tests.data.tiny import coco_captions, write_images, write_json, write_text


def _config(root: Path, **settings: Any) -> FolderConfig:
    return FolderConfig(root=str(root), **settings)


ROWS = [("b.jpg", "a red dog", "train"), ("a.png", 'a "big", cat', "val"), ("b.jpg", "ein Hund", "train")]
EXPECTED = {"train": {"b": ["a red dog", "ein Hund"]}, "val": {"a": ['a "big", cat']}}


def _csv(rows: list[tuple[str, ...]], header: str, delimiter: str = ",") -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=delimiter)
    writer.writerows([tuple(header.split(",")), *rows])
    return stream.getvalue()


def _json_lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


_OBJECTS = [
    {"image": "b.jpg", "captions": ["a red dog", "ein Hund"], "split": "train"},
    {"file_name": "a.png", "caption": 'a "big", cat', "split": "dev"},
]
_COCO = coco_captions({1: ["a red dog", "ein Hund"], 2: ['a "big", cat']}, {1: "b.jpg", 2: "a.png"}.__getitem__)
for _image, _split in zip(_COCO["images"], ("train", "validation"), strict=True):
    _image["split"] = _split


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("captions.csv", _csv(ROWS, "image,caption,split")),
        ("captions.txt", _csv(ROWS, "filename,caption,split")),
        ("captions.tsv", _csv(ROWS, "file_name,caption,split", "\t")),
        ("mine.csv", "\ufeff" + _csv(ROWS, " Image,Caption,SPLIT ", ";")),
        (
            "captions.csv",
            _csv([(c, "7", s, i) for i, c, s in ROWS], "caption,number,split,image").replace("\r\n", "\n"),
        ),
        ("captions.jsonl", _json_lines(_OBJECTS)),
        ("captions.jsonl", "\ufeff\n" + _json_lines(_OBJECTS).replace("\n", "\r\n\r\n")),
    ],
)
def test_tables(tmp_path: Path, name: str, content: str) -> None:
    write_images(tmp_path, ["a.png", "b.jpg"])
    write_text(tmp_path / name, content)
    assert available_splits(_config(tmp_path)) == ["train", "val"]
    for split, expected in EXPECTED.items():
        dataset = load_dataset(_config(tmp_path), split)
        assert dataset.references == expected
        assert dataset.notices == ()


def test_an_image_without_captions(tmp_path: Path) -> None:
    write_images(tmp_path, ["a.png", "b.jpg"])
    write_text(
        tmp_path / "captions.jsonl", _json_lines([_OBJECTS[0], {"image": "a.png", "captions": [], "split": "train"}])
    )
    assert load_dataset(_config(tmp_path), "train").references == {"b": ["a red dog", "ein Hund"], "a": []}


def test_coco_json_keeps_its_ids(tmp_path: Path) -> None:
    write_images(tmp_path / "images", ["a.png", "b.jpg"])
    write_json(tmp_path / "captions.json", _COCO)
    assert load_dataset(_config(tmp_path), "train").references == {1: ["a red dog", "ein Hund"]}
    assert load_dataset(_config(tmp_path), "val").references == {2: ['a "big", cat']}


@given(
    captions=st.lists(
        st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0\r"), min_size=1), min_size=1
    ),
    table=st.booleans(),
)
@settings(max_examples=50, deadline=None)
def test_any_caption_survives(tmp_path_factory: pytest.TempPathFactory, captions: list[str], table: bool) -> None:
    """Commas, quotes, line breaks, any script: captions are read as they were written."""
    root = tmp_path_factory.mktemp("captions")
    rows = [("x/1.jpg", caption, "val") for caption in captions]
    objects = [{"image": image, "caption": caption, "split": split} for image, caption, split in rows]
    if table:
        write_text(root / "captions.csv", _csv(rows, "image,caption,split"))
    else:
        write_text(root / "captions.jsonl", _json_lines(objects))
    assert read_split(_config(root), "val").references == {"x/1": captions}


def test_subfolders(tmp_path: Path) -> None:
    names = ["dog.jpg", "pets/dog.jpg", "pets/old/dog.jpg", "photo.of.me.jpg"]
    write_images(tmp_path, names)
    rows = [
        (name, "a dog", "train")
        for name in (names[0], "pets\\dog.jpg", "./pets//old/../old/dog.jpg", str(tmp_path / names[3]))
    ]
    write_text(tmp_path / "captions.csv", _csv(rows, "image,caption,split"))
    train = load_dataset(_config(tmp_path), "train")
    assert [image.image_id for image in train] == ["dog", "pets/dog", "pets/old/dog", "photo.of.me"]
    assert [image.path for image in train] == [tmp_path / name for name in names]


def test_linked_images(tmp_path: Path) -> None:
    write_images(tmp_path / "elsewhere", ["dog.jpg"])
    root = tmp_path / "root"
    root.mkdir()
    (root / "images").symlink_to(tmp_path / "elsewhere")
    write_text(root / "captions.csv", "image,caption,split\ndog.jpg,a dog,train\n")
    assert len(load_dataset(_config(root), "train")) == 1


@pytest.mark.parametrize(
    "name", ["../x.jpg", "a/../../x.jpg", "/etc/x.jpg", "..", ".", "..\\x.jpg", "C:\\x.jpg", "C:/x.jpg", "//h/x"]
)
@pytest.mark.parametrize("kind", ["csv", "jsonl", "json"])
def test_names_outside_of_the_folder_are_an_error(tmp_path: Path, name: str, kind: str) -> None:
    content = {
        "csv": f"image,caption\n{name},x\n",
        "jsonl": json.dumps({"image": name, "caption": "x"}),
        "json": json.dumps(coco_captions({1: ["x"]}, lambda _: name)),
    }
    write_text(tmp_path / f"captions.{kind}", content[kind])
    with pytest.raises(DataError, match="is outside of"):
        load_dataset(_config(tmp_path), "train")


# ----------------------------------------------------------------------------------------- splits


def test_splits_made_by_hash(tmp_path: Path) -> None:
    names = [f"{number}.png" for number in range(60)]
    write_images(tmp_path, names)
    write_text(tmp_path / "captions.csv", _csv([(name, "x") for name in names], "image,caption"))
    before = {split: load_dataset(_config(tmp_path), split) for split in available_splits(_config(tmp_path))}
    assert list(before) == ["train", "val", "test"]
    assert sum(map(len, before.values())) == 60
    assert all("by a hash of their ids, 10% " in dataset.notices[0] for dataset in before.values())
    more = [f"new{number}.png" for number in range(20)]
    write_images(tmp_path, more)
    write_text(tmp_path / "captions.csv", _csv([(name, "x") for name in more + names], "image,caption"))
    for split, dataset in before.items():  # no image moves
        assert set(dataset.references) <= set(load_dataset(_config(tmp_path), split).references)


def test_no_validation_wanted(tmp_path: Path) -> None:
    write_images(tmp_path, ["a.png", "b.jpg", "c.jpg"])
    write_text(tmp_path / "captions.csv", _csv([("a.png", "x"), ("b.jpg", "y"), ("c.jpg", "z")], "image,caption"))
    assert available_splits(_config(tmp_path, val_fraction=0.0)) == ["train"]
    assert available_splits(_config(tmp_path)) == ["train", "val", "test"]  # three images suffice
    assert len(load_dataset(_config(tmp_path, val_fraction=0.0), "train")) == 3


# ------------------------------------------------------------------------------------------ wrong


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"line 1: the columns are \[\]"),
        ("photo,caption\na,b\n", "line 1: the columns are .*'image'"),
        ("image,words\na,b\n", "line 1: the columns are .*'caption'"),
        ("image,caption\na.jpg,one\nb.jpg,two, three\n", "line 3: 3 columns, but the header has 2"),
        ("image,caption\na.jpg\n", "line 2: 1 columns"),
        ('image,caption\na.jpg,"one\ntwo"\nb.jpg\n', "line 4: 1 columns"),
        ('image,caption\na.jpg,"never closed\nb.jpg,x\n', "not CSV"),
        ('image,caption\na.jpg,"one" two\n', "line 2: not CSV"),
        ("image,caption\n,one\n", "line 2: the image has no name"),
        ("image,caption,split\na.jpg,one,trian\n", "line 2: there is no split 'trian'"),
        (
            "image,caption,split\na.jpg,one,train\na.jpg,two,val\n",
            "line 3: a.jpg is in val here and in train in an earlier line",
        ),
        ("image,caption,split\na.jpg,one,train\nb.jpg,two,\n", r"not for 1 of them \(b.jpg\)"),
        ("image,caption\na.jpg,one\na.png,two\n", "line 3: a.png and a.jpg differ only in their suffix"),
        ("image,caption\n", "has no split"),
        (f"image,caption\na.jpg,{'x' * 200_000}\n", "not CSV: field larger"),
    ],
)
def test_broken_tables(tmp_path: Path, content: str, message: str) -> None:
    path = write_text(tmp_path / "captions.csv", content)
    with pytest.raises(DataError, match=message) as caught:
        load_dataset(_config(tmp_path), "train")
    assert str(path) in str(caught.value) or "has no split" in message


@pytest.mark.parametrize(
    "content",
    [
        "a.jpg,a cat,train\nb.jpg,a dog,val\n",
        "a.jpg,a cat, asleep,train\nb.jpg,a dog,val\n",
        'a.jpg,"a ""big"" cat, asleep",train\nb.jpg,a dog,val\n',
        'a.jpg,0,"a cat, asleep"\nb.jpg,1,a dog\n',
        "a.jpg,0,a cat, asleep\nb.jpg,1,a dog\n",
        "a.jpg;a cat;train\nb.jpg;a dog;val\n",
        "a.jpg| 0| a cat\nb.jpg| 1| a dog\n",
    ],
)
def test_more_columns_without_a_header_do_not_become_captions(tmp_path: Path, content: str) -> None:
    write_text(tmp_path / "captions.csv", content)
    with pytest.raises(DataError, match=r"captions.csv has no header, but more columns .*\('a.jpg', .* first line"):
        load_dataset(_config(tmp_path), "train")


@pytest.mark.parametrize(
    "content",
    [
        'a.jpg,"a cat, asleep"\nb.jpg,a dog\n',
        "a.jpg,a cat, asleep\nb.jpg,a dog\n",
        'a.jpg;"a cat, asleep"\nb.jpg;a dog\n',
        "a.jpg|a cat, asleep\nb.jpg|a dog\n",
    ],
)
def test_two_columns_without_a_header(tmp_path: Path, content: str) -> None:
    write_images(tmp_path, ["a.jpg", "b.jpg"])
    write_text(tmp_path / "captions.csv", content)
    found = load_dataset(_config(tmp_path, val_fraction=0.0), "train").references
    assert found == {"a": ["a cat, asleep"], "b": ["a dog"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"image": "a.jpg", "caption": "x"}\n{"image":', "line 2 is not JSON"),
        ('["a.jpg", "x"]', "line 1 is a list, not an object with 'image'"),
        ('{"caption": "x"}', "line 1 has no 'image'"),
        ('{"image": "a.jpg"}', "line 1 has no 'caption'"),
        ('{"image": 5, "caption": "x"}', "'image' is an integer. Expected a string"),
        ('{"image": "a.jpg", "caption": 5}', "'caption' is an integer. Expected a string or a list"),
        ('{"image": "a.jpg", "captions": {"x": 1}}', "'captions' is an object. Expected a string or a list"),
        ('{"image": "a.jpg", "captions": ["x", 5]}', "'captions' holds 5"),
        ('{"image": "a.jpg", "captions": ["\\ud83d"]}', "incomplete character"),
        ('{"image": "a.jpg", "caption": "x", "split": 5}', "'split' is an integer"),
    ],
)
def test_broken_json_lines(tmp_path: Path, content: str, message: str) -> None:
    write_text(tmp_path / "captions.jsonl", content)
    with pytest.raises(DataError, match=message):
        load_dataset(_config(tmp_path), "train")


def test_which_captions_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no captions file"):
        load_dataset(_config(tmp_path), "train")
    write_images(tmp_path, ["a.png"])
    for name in ("one.csv", "two.csv"):
        write_text(tmp_path / name, f"image,caption,split\na.png,{name},train\n")
    with pytest.raises(DataError, match=r"several possible captions files \(one\.csv, two\.csv\)"):
        load_dataset(_config(tmp_path), "train")
    for given_name in ("two.csv", str(tmp_path / "two.csv")):
        assert load_dataset(_config(tmp_path, captions=given_name), "train").references == {"a": ["two.csv"]}
    for wrong in ("none.csv", "."):
        with pytest.raises(DataError, match="is not a file"):
            load_dataset(_config(tmp_path, captions=wrong), "train")
    with pytest.raises(DataError, match="is a file"):
        load_dataset(_config(tmp_path / "one.csv"), "train")


def test_coco_json_with_a_wrong_split(tmp_path: Path) -> None:
    content = coco_captions({1: ["x"]}, lambda _: "a.jpg")
    content["images"][0]["split"] = "trian"
    write_json(tmp_path / "captions.json", content)
    with pytest.raises(DataError, match="the split 'trian'"):
        load_dataset(_config(tmp_path), "train")


_TEXT = st.text("ab.jpg,;\t\"'\r\n/\\\0{}[]:caption image split train", max_size=80) | st.text(max_size=40)


@given(text=_TEXT, header=st.sampled_from(["", "image,caption\n", "image;caption;split\n"]), table=st.booleans())
@settings(max_examples=100, deadline=None)
def test_any_text_is_read_or_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, text: str, header: str, table: bool
) -> None:
    root = tmp_path_factory.mktemp("fuzz")
    path = root / ("captions.csv" if table else "captions.jsonl")
    path.write_bytes((header + text).encode("utf-8", "replace"))
    try:
        dataset = read_folder(_config(root), "train")
    except CaptionerError as error:
        message = str(error)
    else:
        message = str(root)
        assert all(image.path.is_relative_to(root) for image in dataset)
    assert str(root) in message
