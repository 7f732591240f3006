"""Files of generated captions: the formats, and the errors for invalid files."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from captioner.errors import DataError
from captioner.metrics import read_results, write_results
from captioner.metrics.coco_results import check_same_images

CAPTIONS = {139: "a dog on grass", "photo é": "日本の犬\n"}
ROWS = [{"image_id": image_id, "caption": caption, "score": 0.5} for image_id, caption in CAPTIONS.items()]


def written(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("captions.json", json.dumps(ROWS)),
        ("captions.json", "\ufeff" + json.dumps(ROWS, indent=2)),
        ("captions.jsonl", "\n".join(map(json.dumps, ROWS)) + "\n\n"),
        ("captions.ndjson", "\r\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS)),
    ],
)
def test_layouts(tmp_path: Path, name: str, text: str) -> None:
    assert read_results(written(tmp_path, name, text)) == CAPTIONS


def test_ids_of_an_object_are_compared_as_text(tmp_path: Path) -> None:
    path = written(tmp_path, "captions.json", json.dumps(CAPTIONS))
    assert read_results(path) == {"139": "a dog on grass", "photo é": "日本の犬\n"}
    assert read_results(path, image_ids=[139, "photo é"]) == CAPTIONS


@pytest.mark.parametrize("shape", [lambda text: [text], lambda text: [{"caption": text, "id": 3}]])
def test_shapes_of_pycocoevalcap(tmp_path: Path, shape: Callable[[str], object]) -> None:
    path = written(tmp_path, "c.json", json.dumps({image_id: shape(text) for image_id, text in CAPTIONS.items()}))
    assert read_results(path, image_ids=list(CAPTIONS)) == CAPTIONS


@pytest.mark.parametrize("name", ["image_id", "Image", " file_name "])
def test_a_table_with_names_of_columns(tmp_path: Path, name: str) -> None:
    captions = {"139": 'a "big" dog, on grass', "photo é": "日本の犬\n"}
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["CIDEr", name, "Caption"])
    for image_id, caption in captions.items():
        table.writerow([0.5, image_id, caption])
    path = written(tmp_path, "c.csv", "\ufeff" + text.getvalue() + "\r\n")
    assert read_results(path) == captions
    assert read_results(path, image_ids=[139, "photo é"]) == {139: captions["139"], "photo é": captions["photo é"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("139,a dog\n", "names its columns, image_id and caption; found '139, a dog'"),
        ("", "names its columns"),
        ("image_id;caption\n139;a dog\n", "found 'image_id;caption'"),
        ("image_id,caption\n139,a dog, on grass\n", "line 2: expected 2 fields as in the first line, found 3"),
        ("image_id,caption\n139\n", "line 2: expected 2 fields as in the first line, found 1"),
        ("id,caption,caption\n", "the column 'caption' is there twice"),
        ('id,caption\n1,"a\n', "line 2: this is no CSV that can be read"),
        ("id,caption\n1,a\n1,b\n", "1 image ids have more than one caption"),
    ],
)
def test_a_table_that_cannot_be_read(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        read_results(written(tmp_path, "c.csv", text))


def test_text_that_is_no_json_is_told_the_formats(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is not valid JSON: .* at line 1, column 1\. Expected COCO's results format"):
        read_results(written(tmp_path, "c.txt", "image_id\tcaption\n"))


def test_a_subset_is_read_on_request(tmp_path: Path) -> None:
    path = written(tmp_path, "c.json", json.dumps({"2": "b", "0": "a"}))
    with pytest.raises(DataError, match=r"2 of 4 image ids have no caption \(1, 3\)\. .* subset=results"):
        read_results(path, image_ids=range(4))
    assert read_results(path, image_ids=range(4), subset=True) == {2: "b", 0: "a"}
    with pytest.raises(DataError, match="1 image ids are unknown"):
        read_results(path, image_ids=[1, 2], subset=True)
    with pytest.raises(DataError, match="has no captions"):
        read_results(written(tmp_path, "empty.json", "[]"), image_ids=range(4), subset=True)


def test_captions_of_other_images(tmp_path: Path) -> None:
    path = written(tmp_path, "c.json", json.dumps({"7": "a", "8": "b"}))
    with pytest.raises(DataError, match=r"none of its 2 image ids \('7', '8'\) .* another data set or split"):
        read_results(path, image_ids=[1, 2, 3])


def test_file_names_are_known_with_and_without_suffix(tmp_path: Path) -> None:
    path = written(tmp_path, "c.json", json.dumps({"1.jpg": "a", "pets/b.2.PNG": "b"}))
    assert read_results(path, image_ids=["1", "pets/b.2"]) == {"1": "a", "pets/b.2": "b"}
    assert read_results(path, image_ids=["1.png", "pets/b.2.PNG"]) == {"1.png": "a", "pets/b.2.PNG": "b"}
    for ids in (["1.png", "1.jpeg", "pets/b.2"], ["1", "pets/b"]):
        with pytest.raises(DataError, match=r"unknown \('(1.jpg|pets/b.2.PNG)'\)"):
            read_results(path, image_ids=ids)
    twice = written(tmp_path, "twice.json", json.dumps({"1.jpg": "a", "1.png": "b"}))
    with pytest.raises(DataError, match="1 image ids have more than one caption: '1'"):
        read_results(twice, image_ids=["1"])


def test_round_trip(tmp_path: Path) -> None:
    write_results(tmp_path / "captions.json", CAPTIONS)
    assert read_results(tmp_path / "captions.json") == CAPTIONS
    assert json.loads((tmp_path / "captions.json").read_text("utf-8"))[0] == {
        "image_id": 139,
        "caption": "a dog on grass",
    }
    assert [path.name for path in tmp_path.iterdir()] == ["captions.json"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.json", '[{"image_id": 1,\n "caption" "a"}]', r"c\.json is not valid JSON: .* at line 2, column 12"),
        ("c.jsonl", '{"image_id": 1, "caption": "a"}\n\n{"image_id": 2', r"c\.jsonl is not valid JSON: .* at line 3"),
        ("c.json", '{"image_id": 1, "caption": "a"}\n{"image_id": 2, "caption": "b"}', r"name the file \.jsonl"),
        ("c.json", "", "is not valid JSON"),
        ("c.json", b"\xff\xfe\x00", r"not UTF-8 text \(byte 0\)"),
        ("c.json", "3", "expected a list of captions"),
        ("c.json", '[{"image_id": 1}]', r"entry 0: expected .* found \{'image_id': 1\}"),
        ("c.json", '[{"image_id": 1.5, "caption": "a"}]', "entry 0: expected"),
        ("c.json", '[{"image_id": true, "caption": "a"}]', "entry 0: expected"),
        ("c.json", '[{"image_id": 1, "caption": ["a"]}]', "entry 0: expected"),
        ("c.json", '["a dog"]', "entry 0: expected .* found 'a dog'"),
        ("c.jsonl", '{"image_id": 1, "caption": "a"}\n[]', r"line 2: expected"),
        ("c.json", '{"7": {"text": "a"}}', r"image '7': expected .* found \{'text': 'a'\}"),
        ("c.json", '{"7": [{"text": "a"}]}', r"image '7': expected .* found \[\{'text': 'a'\}\]"),
        ("c.json", '{"7": [null]}', "image '7': expected"),
        ("c.json", '{"7": null}', "image '7': expected"),
        ("c.json", '{"7": []}', "the list of captions of image '7' is empty"),
        ("c.json", '{"7": ["a", "b"]}', "1 image ids have more than one caption: '7'"),
        ("c.json", '{"7": ["a", "b"], "8": ["c", "d"]}', "Are these the references"),
        ("c.json", '{"images": [], "annotations": []}', "References are given as references=FILE"),
        ("c.json", '[{"image_id": 1, "caption": null}]', "entry 0: expected"),
        ("c.json", '[{"image_id": 1, "caption": "\\ud800"}]', "incomplete character"),
        ("c.json", '{"\\ud800": "a"}', "incomplete character"),
        ("c.json", '[{"image_id": 7, "caption": "a"}, {"image_id": 7, "caption": "b"}]', "1 image ids .*: 7"),
        ("c.json", '{"7": "a", "7": "b"}', "more than one caption: '7'"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, name: str, text: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_results(written(tmp_path, name, text))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.json: No such file"):
        read_results(tmp_path / "nowhere.json")
    with pytest.raises(DataError, match="Cannot read"):
        read_results(tmp_path)


def test_missing_and_unknown_ids_are_counted_and_named(tmp_path: Path) -> None:
    path = written(tmp_path, "c.json", json.dumps([{"image_id": index, "caption": "a"} for index in range(10)]))
    with pytest.raises(
        DataError, match=r"c\.json: 1 of 4 image ids have no caption \(99\) and 7 .* \(3, 4, 5, 6, 7, …"
    ):
        read_results(path, image_ids=[0, 1, 2, 99])
    with pytest.raises(DataError, match="2 image ids have more than one caption: 1, 2"):
        read_results(
            written(tmp_path, "c.json", json.dumps([{"image_id": i, "caption": "a"} for i in (1, "1", 2, "2", 2)])),
            image_ids=[1, 2],
        )


def test_ids_that_only_differ_in_kind_get_a_hint() -> None:
    with pytest.raises(DataError, match="text on one side and integers on the other"):
        check_same_images({"1": "a"}, [1], "The captions")
