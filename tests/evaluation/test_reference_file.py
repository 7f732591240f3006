"""References from one file: every layout gives the same captions, and no image is looked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from captioner.errors import DataError
from captioner.evaluation.reference_file import read_reference_file

REFERENCES = {7: ["a cat", "a grey cat"], 11: ["two dogs"]}
NAMES = {"pets/cat": ["a cat", "a grey cat"], "dogs": ["two dogs"]}
ANNOTATIONS = [{"image_id": i, "caption": caption} for i, captions in REFERENCES.items() for caption in captions]
COCO = {"images": [{"id": i, "file_name": f"{i}.jpg"} for i in REFERENCES], "annotations": ANNOTATIONS}
KARPATHY = {
    "images": [
        {
            "split": split,
            "cocoid": image_id,
            "filename": f"{image_id}.jpg",
            "sentences": [{"raw": caption} for caption in captions],
        }
        for image_id, captions, split in [*((i, c, "val") for i, c in REFERENCES.items()), (3, ["a bus"], "restval")]
    ],
    "dataset": "rsicd",
}
TABLE = "image,caption\npets/cat.jpg,a cat\npets/cat.jpg,a grey cat\ndogs.png,two dogs\n"
LINES = '{"image": "pets/cat.jpg", "captions": ["a cat", "a grey cat"]}\n{"image": "dogs.png", "caption": "two dogs"}\n'


def written(folder: Path, name: str, content: object) -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("captions_val2014.json", COCO, REFERENCES),
        ("no_names.json", {**COCO, "images": [{"id": image_id} for image_id in REFERENCES]}, REFERENCES),
        ("dataset_x.json", KARPATHY, REFERENCES),
        ("lists.json", REFERENCES, REFERENCES),
        ("names.json", {"07": ["a cat", "a grey cat"], "11": ["two dogs"]}, {"07": ..., "11": ...}),
        ("objects.json", {i: [{"caption": c} for c in of] for i, of in REFERENCES.items()}, REFERENCES),
        ("annotations.json", ANNOTATIONS, REFERENCES),
        ("captions.csv", TABLE, NAMES),
        ("captions.tsv", TABLE.replace(",", "\t"), NAMES),
        ("captions.txt", TABLE, NAMES),
        ("captions.jsonl", LINES, NAMES),
        ("Flickr8k.token.txt", "cat.jpg#0\ta cat\ncat.jpg#1\ta grey cat\ndogs.jpg#0\ttwo dogs\n", None),
    ],
)
def test_layouts(tmp_path: Path, name: str, content: object, expected: dict[object, object] | None) -> None:
    dataset = read_reference_file(written(tmp_path, name, content))
    assert list(dataset.references.values()) == list(REFERENCES.values())
    assert list(dataset.references) == list(expected if expected is not None else ("cat", "dogs"))
    assert dataset.name == Path(name).stem
    assert dataset.split == ("val" if content is KARPATHY else "all")


def test_splits(tmp_path: Path) -> None:
    """A file with splits is read in part, val by default; of a file without them `split` is only the name."""
    path = written(tmp_path, "dataset_x.json", KARPATHY)
    assert list(read_reference_file(path, "train").references) == [3]
    table = written(
        tmp_path, "c.csv", "image,caption,split\na.jpg,a cat,dev\nb.jpg,a dog,test\nc.jpg,a bus,test\nb.jpg,dogs,test\n"
    )
    assert read_reference_file(table).references == {"a": ["a cat"]}
    assert read_reference_file(table, "test").references == {"b": ["a dog", "dogs"], "c": ["a bus"]}
    whole = read_reference_file(written(tmp_path, "coco.json", COCO), "test")
    assert (whole.split, list(whole.references)) == ("test", list(REFERENCES))


@pytest.mark.parametrize(
    ("name", "content", "split", "message"),
    [
        ("c.json", '{"7": ["a"', None, r"c\.json is not JSON"),
        ("c.json", "{}", None, "is empty"),
        ("c.json", "[]", None, "is empty"),
        ("c.json", '{"images": [], "annotations": []}', None, "is empty"),
        ("c.json", '{"7": []}', None, "has images but no captions"),
        ("c.json", '{"7": [" "]}', None, "has images but no captions"),
        ("c.json", '{"images": [{"id": 1}], "annotations": []}', None, "has images but no captions"),
        ("c.json", '{"images": [{"id": 1}]}', None, "has no 'annotations'"),
        ("c.json", '{"7": ["a", null]}', None, "image '7': expected"),
        ("c.json", '{"7": [3]}', None, "image '7': expected"),
        ("c.json", '{"7": ["a"], "7": ["b"]}', None, "1 image ids occur more than once: 7"),
        ("c.json", '"a dog"', None, "expected a list of captions"),
        ("c.json", '{"images": [{"id": 1, "split": "val"}, {"id": 2}], "annotations": []}', None, "not for 1 of them"),
        ("c.csv", "image,caption,split\na.jpg,a cat,train\n", None, "has splits, but no val. .* one of: train"),
        ("c.csv", "image,caption,split\na.jpg,a cat,train\n", "tran", "has no split 'tran'. Did you mean train"),
        ("c.csv", "picture,text\na.jpg,a cat\n", None, "line 1: the columns are"),
    ],
)
def test_broken_files(tmp_path: Path, name: str, content: str, split: str | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_reference_file(written(tmp_path, name, content), split)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.json does not exist"):
        read_reference_file(tmp_path / "nowhere.json")
    with pytest.raises(DataError, match=r"is a folder.*data=NAME data\.root=DIR"):
        read_reference_file(tmp_path)
