"""Parquet tables with the names of images, and with the images themselves."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from captioner.config import FolderConfig
from captioner.data.check.image_checks import inspect_image
from captioner.data.datasets.layouts.registry import read_captions_file
from captioner.data.datasets.registry import load_dataset
from captioner.data.datasets.tar_shards.pack import pack_shards
from captioner.data.images.decode import image_size, load_image
from captioner.errors import DataError, ImageError
from tests.data.tiny import jpeg

arrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

COLORS = ["red", "green", "blue", "white", "black"]


def _table(path: Path, rows: list[dict[str, Any]], **options: Any) -> FolderConfig:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(arrow.Table.from_pylist(rows), path, **options)
    return FolderConfig(root=str(path.parent), val_fraction=0.0)


def _rows(**columns: list[Any]) -> list[dict[str, Any]]:
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def test_images_in_the_table_are_those_that_were_written(tmp_path: Path) -> None:
    contents = [jpeg(color) for color in COLORS]
    images = [{"bytes": content, "path": f"{i}.jpg"} for i, content in enumerate(contents)]
    rows = _rows(image=images, caption=[[f"a {color} square", color] for color in COLORS])
    dataset = load_dataset(_table(tmp_path / "train.parquet", rows, row_group_size=2), "train")
    assert dataset.references == {str(i): [f"a {color} square", color] for i, color in enumerate(COLORS)}
    for index in (4, 0, 3, 1, 2):  # in any order, over row groups
        path = dataset.images[index].path
        assert path.read_bytes() == contents[index]
        assert pickle.loads(pickle.dumps(path)) == path
        expected = Image.open(io.BytesIO(contents[index])).convert("RGB")
        assert load_image(path).tobytes() == expected.tobytes()
        assert image_size(path) == expected.size
        assert inspect_image(path).fault is None
    assert str(dataset.images[1].path) == f"{tmp_path / 'train.parquet'}:1.jpg"


def test_a_repeated_column_is_an_error(tmp_path: Path) -> None:
    table = arrow.Table.from_arrays([["a.jpg"], ["one"], ["two"]], names=["image", "caption", "caption"])
    parquet.write_table(table, tmp_path / "train.parquet")
    with pytest.raises(DataError, match=r"train\.parquet: the column 'caption' is there twice"):
        read_captions_file(tmp_path / "train.parquet")


def test_images_pack_into_shards(tmp_path: Path) -> None:
    rows = _rows(image=[{"bytes": jpeg("red"), "path": "a.jpg"}], text=["a red square"])
    dataset = load_dataset(_table(tmp_path / "in" / "t.parquet", rows), "train")
    (shard,) = pack_shards(dataset, tmp_path / "out", 10)
    assert shard.stat().st_size > 1000


@pytest.mark.parametrize(
    ("columns", "ids"),
    [
        ({"image_id": [7, 9]}, [7, 9]),
        ({"image_id": ["x", "y"]}, ["x", "y"]),
        ({}, ["t/1", "t/2"]),
    ],
)
def test_ids_of_images_without_a_name(tmp_path: Path, columns: dict[str, list[Any]], ids: list[object]) -> None:
    rows = _rows(image=[jpeg("red"), jpeg("blue")], text=["red", "blue"], **columns)  # plain bytes
    dataset = load_dataset(_table(tmp_path / "t.parquet", rows), "train")
    assert [image.image_id for image in dataset] == ids


def test_captions_as_structs_and_nulls(tmp_path: Path) -> None:
    """HuggingFaceM4/COCO has a struct per caption; a missing list is no caption."""
    rows = _rows(filename=["a.jpg", "b.jpg"], sentences=[[{"raw": "a dog", "imgid": 3}], None])
    parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / "t.parquet")
    entries = read_captions_file(tmp_path / "t.parquet").entries
    assert [(entry.images, entry.captions) for entry in entries] == [(("a.jpg",), ("a dog",)), (("b.jpg",), ())]


def test_captions_in_a_column_of_json(tmp_path: Path) -> None:
    """As `datasets` 5 writes a column of strings and numbers: JSON texts, but strings that are JSON as they stand."""
    if not hasattr(arrow, "json_"):
        pytest.skip("this pyarrow has no type for JSON")
    written = ['"a dog"', "7", "007", "true", '"a \\"STOP\\" sign"', None, '["one", "two"]', "null"]
    read = [["a dog"], ["7"], ["007"], ["true"], ['a "STOP" sign'], [], ["one", "two"], []]
    images = [f"{i}.jpg" for i in range(len(written))]
    storage = arrow.array(written, arrow.string())
    columns = {"image": images, "caption": arrow.ExtensionArray.from_storage(arrow.json_(), storage)}
    parquet.write_table(arrow.table(columns), tmp_path / "one.parquet", row_group_size=3)
    assert [list(entry.captions) for entry in read_captions_file(tmp_path / "one.parquet").entries] == read
    kind = arrow.list_(arrow.json_())
    lists = arrow.array([['"a dog"', "7", "007"], []], arrow.list_(arrow.string())).cast(kind)
    parquet.write_table(arrow.table({"image": ["a.jpg", "b.jpg"], "captions": lists}), tmp_path / "list.parquet")
    entries = read_captions_file(tmp_path / "list.parquet").entries
    assert [list(entry.captions) for entry in entries] == [["a dog", "7", "007"], []]


def test_what_is_wrong_with_a_table(tmp_path: Path) -> None:
    _table(tmp_path / "t.parquet", _rows(picture=["a"], title=["b"]))
    with pytest.raises(DataError, match=r"t.parquet: the columns are \['picture', 'title'\]. Expected a column of im"):
        read_captions_file(tmp_path / "t.parquet")
    (tmp_path / "t.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match="is no Parquet file, or is incomplete"):
        read_captions_file(tmp_path / "t.parquet")
    _table(
        tmp_path / "u.parquet",
        _rows(image=["a.jpg", "b.jpg", "c.jpg"], caption=["x", "y", "z"], split=["a", "b", "val"]),
    )
    faults = read_captions_file(tmp_path / "u.parquet").faults
    assert [fault.split(", ")[1].split(".")[0] for fault in faults] == [
        "row 1: there is no split 'a'",
        "row 2: there is no split 'b'",
    ]


def test_an_image_that_is_missing_in_the_table(tmp_path: Path) -> None:
    rows = _rows(image=[{"bytes": None, "path": "a.jpg"}, {"bytes": jpeg(), "path": "b.jpg"}], text=["x", "y"])
    dataset = load_dataset(_table(tmp_path / "t.parquet", rows), "train")
    with pytest.raises(ImageError, match=r"t.parquet:a.jpg cannot be read: the table holds no image in this row"):
        load_image(dataset.images[0].path)
    load_image(dataset.images[1].path)
    (tmp_path / "t.parquet").unlink()
    with pytest.raises(ImageError, match="cannot be read"):
        load_image(dataset.images[1].path)
