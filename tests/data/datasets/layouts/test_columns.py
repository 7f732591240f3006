"""Which columns and keys are read, and what is said where none fits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from captioner.config import FolderConfig
from captioner.data.datasets.layouts.caption_layout import ReadOptions
from captioner.data.datasets.layouts.columns import CAPTION_KEYS, IMAGE_KEYS, find_columns
from captioner.data.datasets.layouts.registry import CONVERSION, read_captions_file
from captioner.data.datasets.registry import available_splits, load_dataset
from captioner.errors import ConfigError, DataError
from tests.data.tiny import write_images, write_json, write_text


def _read(path: Path, **options: str) -> list[tuple[tuple[object, ...], tuple[str, ...], str | None]]:
    content = read_captions_file(path, ReadOptions(**options))
    assert content.faults == ()
    return [(entry.images, entry.captions, entry.split) for entry in content.entries]


@pytest.mark.parametrize("image", IMAGE_KEYS)
@pytest.mark.parametrize("caption", CAPTION_KEYS)
def test_every_usual_name_is_found(image: str, caption: str) -> None:
    columns = find_columns((f" {caption.upper()}", "other", image), ReadOptions())
    assert columns is not None
    assert (columns.image, columns.captions) == (image, (f" {caption.upper()}",))


def test_named_columns(tmp_path: Path) -> None:
    rows = [{"photo": "a.jpg", "beschreibung": "ein Hund", "caption": "a dog", "teil": "train", "image": "no.jpg"}]
    options = {"image_column": "photo", "caption_column": "Beschreibung", "split_column": "teil"}
    expected = [(("a.jpg",), ("ein Hund",), "train")]
    header, values = ",".join(rows[0]), ",".join(rows[0].values())
    assert _read(write_text(tmp_path / "a.csv", f"{header}\n{values}\n"), **options) == expected
    assert _read(write_text(tmp_path / "a.jsonl", json.dumps(rows[0])), **options) == expected
    assert _read(write_json(tmp_path / "a.json", rows), **options) == expected
    assert _read(write_json(tmp_path / "b.json", {"list": rows, "info": {}}), **options) == expected


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json"])
def test_a_named_column_that_does_not_exist(tmp_path: Path, name: str) -> None:
    row = {"foto": "a.jpg", "caption": "a dog"}
    content = {"a.csv": "foto,caption\na.jpg,a dog\n", "a.jsonl": json.dumps(row), "a.json": json.dumps([row])}[name]
    write_text(tmp_path / name, content)
    with pytest.raises(DataError, match=r"data.image_column=photo: .* Did you mean foto\? It has: foto, caption\."):
        load_dataset(FolderConfig(root=str(tmp_path), image_column="photo"), "train")
    with pytest.raises(DataError, match=r"data.split_column=split"):
        load_dataset(FolderConfig(root=str(tmp_path), image_column="foto", split_column="split"), "train")


def test_a_named_column_in_an_inner_list(tmp_path: Path) -> None:
    path = write_json(tmp_path / "a.json", {"train": [{"id": 1, "report": "x", "image_path": ["a.png"]}]})
    with pytest.raises(
        DataError, match=r"data.image_column=imge_path: .*, train\[0\] has .* Did you mean image_path\?"
    ):
        read_captions_file(path, ReadOptions(image_column="imge_path"))


def test_columns_of_a_layout_with_fixed_keys(tmp_path: Path) -> None:
    path = write_json(tmp_path / "c.json", {"images": [{"filename": "a", "split": "train", "sentences": []}]})
    with pytest.raises(DataError, match=r"data.caption_column cannot be used for .* Karpathy.* Leave the setting out"):
        read_captions_file(path, ReadOptions(caption_column="raw"))


def test_all_of_several_caption_columns_are_used(tmp_path: Path) -> None:
    """A repeated header drops no caption."""
    path = write_text(tmp_path / "a.csv", "image,caption,caption,caption\na.jpg,one,two,three\n")
    assert _read(path) == [(("a.jpg",), ("one", "two", "three"), None)]
    path = write_text(tmp_path / "b.csv", "image,caption_0,caption_1,caption_number\na.jpg,one,two,5\n")
    assert _read(path) == [(("a.jpg",), ("one", "two"), None)]
    path = write_text(tmp_path / "c.csv", "image,image,caption\na.jpg,b.jpg,one\n")
    with pytest.raises(DataError, match="line 1: the column 'image' is there twice"):
        read_captions_file(path)


def test_a_column_of_which_one_would_be_dropped_is_an_error(tmp_path: Path) -> None:
    path = write_text(tmp_path / "a.csv", "image,split,caption,Split\na.jpg,train,one,val\n")
    with pytest.raises(DataError, match=r"line 1: the column 'split' is there twice\. Rename one of the two\."):
        read_captions_file(path)
    path = write_json(tmp_path / "a.json", [{"image": "a.jpg", "caption": "one", "Caption": "two"}])
    assert "the column 'caption' is there twice" in read_captions_file(path).faults[0]


def test_a_list_in_each_cell(tmp_path: Path) -> None:
    rows = 'filename,raw\na.jpg,"[""a dog"", ""a [big] dog""]"\nb.jpg,"[""a cat""]"\n'
    path = write_text(tmp_path / "a.csv", rows)
    assert _read(path) == [(("a.jpg",), ("a dog", "a [big] dog"), None), (("b.jpg",), ("a cat",), None)]
    path = write_text(tmp_path / "b.csv", rows + "c.jpg,[a sign]\n")  # one cell is no list: all are captions
    assert _read(path)[0] == (("a.jpg",), ('["a dog", "a [big] dog"]',), None)


@pytest.mark.parametrize(
    ("value", "captions"),
    [
        ("a dog", ("a dog",)),
        (["a dog", "a cat"], ("a dog", "a cat")),
        ([{"raw": "a dog", "tokens": ["a", "dog"]}, {"caption": "a cat"}], ("a dog", "a cat")),
        ([], ()),
        (None, ()),
    ],
)
def test_values_of_captions(tmp_path: Path, value: object, captions: tuple[str, ...]) -> None:
    path = write_json(tmp_path / "a.json", [{"image": "a.jpg", "caption": value}])
    assert _read(path) == [(("a.jpg",), captions, None)]


UNKNOWN = {
    "a.json": (
        {"info": {}, "items": [{"url": "x"}]},
        "an object with the keys info, items, whose items is a list of objects with the keys url",
    ),
    "b.json": ([{"url": "x", "titel": "y"}], "a list of objects with the keys url, titel"),
    "c.json": ([], "a list of no objects"),
    "d.json": (5, "an integer"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_an_unknown_json_layout(tmp_path: Path, name: str) -> None:
    content, found = UNKNOWN[name]
    path = write_json(tmp_path / name, content)
    with pytest.raises(DataError) as caught:
        read_captions_file(path)
    message = str(caught.value)
    assert message.startswith(f"{path} is JSON in no layout that data=folder reads: it is {found}.")
    assert "data.image_column" in message
    assert '[{"image": "cat.jpg", "captions":' in message  # a line of what is expected
    assert message.endswith(CONVERSION)


def test_an_unknown_table(tmp_path: Path) -> None:
    path = write_text(tmp_path / "a.csv", "foto;titel;jahr\na.jpg;x;1999\n")
    with pytest.raises(DataError, match=r"line 1: the columns are \['foto', 'titel', 'jahr'\].*data.image_column"):
        read_captions_file(path)


def test_the_conversion_in_the_message_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [line.removeprefix("    ") for line in CONVERSION.splitlines()[1:]]
    exec("\n".join(lines), {"PAIRS": [("a.png", "a dog"), ("b.png", 'a "cat"')]})
    write_images(tmp_path, ["a.png", "b.png"])
    config = FolderConfig(root=str(tmp_path), val_fraction=0.0)
    assert load_dataset(config, "train").references == {"a": ["a dog"], "b": ['a "cat"']}


# ------------------------------------------------------------------------------------ single layouts


def test_the_broken_row_of_flickr30k(tmp_path: Path) -> None:
    """The real line: `2199200615.jpg| 4   A dog runs across the grass .`"""
    text = (
        "image_name| comment_number| comment\n"
        '2199200615.jpg| 0| A brown dog , with "a stick" .\n'
        "2199200615.jpg| 4   A dog runs across the grass .\n"
        "2199297901.jpg| 0| A man| running .\n"
    )
    path = write_text(tmp_path / "results.csv", text)
    content = read_captions_file(path)
    assert [entry.captions[0] for entry in content.entries] == [
        'A brown dog , with "a stick" .',
        "A dog runs across the grass .",
    ]
    assert "line 3 has no '|' after the number 4: a known fault of Flickr30k's results.csv" in content.notices[0]
    assert len(content.notices) == 1
    (fault,) = content.faults
    assert "line 4: 4 columns, but the header has 3" in fault


def test_vizwiz_captions_are_kept_or_left_out(tmp_path: Path) -> None:
    texts = {"fine": (False, False), "spam": (True, False), "canned": (False, True)}
    annotations = [
        {"image_id": 1, "caption": text, "is_rejected": rejected, "is_precanned": precanned}
        for text, (rejected, precanned) in texts.items()
    ]
    path = write_json(tmp_path / "val.json", {"images": [{"id": 1, "file_name": "1.jpg"}], "annotations": annotations})
    content = read_captions_file(path)
    assert content.entries[0].captions == ("fine",)
    assert [notice.split(" (")[0] for notice in content.notices] == [
        f"1 captions of {path} with is_rejected are left out",
        f"1 captions of {path} with is_precanned are left out",
    ]
    kept = read_captions_file(path, ReadOptions(keep_rejected=True, keep_precanned=True))
    assert kept.entries[0].captions == ("fine", "spam", "canned")
    assert kept.notices == ()


def test_karpathys_own_field_decides_about_published_counts(tmp_path: Path) -> None:
    images = [
        {"filename": f"{split}.jpg", "split": split, "sentences": [{"raw": "x"}]}
        for split in ("train", "restval", "val", "test")
    ]
    for dataset in ("rsicd", None, 7):
        path = write_json(tmp_path / "a.json", {"images": images, "dataset": dataset})
        content = read_captions_file(path)
        assert content.notices == ()
        assert [entry.split for entry in content.entries] == ["train", "train", "val", "test"]
    for dataset, train in (("coco", "113,287"), ("flickr30k", "29,000"), ("flickr8k", "6,000")):
        path = write_json(tmp_path / "a.json", {"images": images, "dataset": dataset})
        (notice,) = read_captions_file(path).notices
        assert f"Karpathy's splits have train {train}" in notice


def test_a_token_file_of_flickr8k(tmp_path: Path) -> None:
    text = "a#1.jpg#0\tA dog .\n2258277193_586949ec62.jpg.1#0\tPeople .\nb.jpg#1\ta # sign #3\n"
    content = read_captions_file(write_text(tmp_path / "a.token", text))
    assert [(entry.images, entry.captions) for entry in content.entries] == [
        (("a#1.jpg",), ("A dog .",)),
        (("b.jpg",), ("a # sign #3",)),
    ]
    assert "which does not exist: left out" in content.notices[0]
    broken = read_captions_file(write_text(tmp_path / "b.token", "a.jpg#0\tA dog .\n" * 5 + "no number\tx\n"))
    assert [fault.split(", ")[1][:29] for fault in broken.faults] == ["line 6: expected NAME.jpg#0"[:29]]


def test_a_wide_table_without_a_header(tmp_path: Path) -> None:
    path = write_text(tmp_path / "a.txt", "a1\tone\na2\ttwo\tthree\n")
    (fault,) = read_captions_file(path).faults
    assert "line 2: 3 columns in a table without a header" in fault


def test_commas_without_a_header(tmp_path: Path) -> None:
    path = write_text(tmp_path / "a.csv", 'a.jpg,"one, two"\nb.jpg,three, four\n')
    assert _read(path) == [(("a.jpg",), ("one, two",), None), (("b.jpg",), ("three, four",), None)]


def test_splits_that_contradict_their_list(tmp_path: Path) -> None:
    rows = {"train": [{"image": "a.jpg", "caption": "x", "split": "val"}], "val": 7}
    path = write_json(tmp_path / "a.json", rows)
    faults = read_captions_file(path).faults
    assert "train[0]: the split is 'val' in the list of train" in faults[0]
    assert "'val' is not a list" in faults[1]


def test_text_beside_images(tmp_path: Path) -> None:
    write_images(tmp_path, ["a.png", "pets/b.jpg", "c.jpg"])
    write_text(tmp_path / "a.txt", "\ufeffa dog\n\n a cat \n")
    write_text(tmp_path / "pets/b.txt", "a hat")
    config = FolderConfig(root=str(tmp_path), val_fraction=0.0)
    assert load_dataset(config, "train").references == {"a": ["a dog", "a cat"], "c": [], "pets/b": ["a hat"]}


def test_settings_that_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match=r"data.captions is one file for all splits, data.val the file of one"):
        FolderConfig(root=".", captions="a.csv", val="b.csv")


def test_a_file_that_is_only_a_list_of_images(tmp_path: Path) -> None:
    """The test splits of COCO and nocaps have no public captions."""
    write_images(tmp_path, ["1.jpg", "2.jpg"])
    write_json(tmp_path / "image_info.json", {"images": [{"id": 1, "file_name": "1.jpg"}], "licenses": []})
    write_json(tmp_path / "a.json", [{"image": "2.jpg", "caption": "x"}])
    config = FolderConfig(root=str(tmp_path), train="a.json", test="image_info.json")
    assert available_splits(config) == ["train", "test"]
    with pytest.raises(DataError, match="has images but no captions"):
        load_dataset(config, "test")


def _write_rows(path: Path, rows: list[dict[str, str]]) -> Path:
    if path.suffix == ".csv":
        return write_text(path, "\n".join(",".join(row) for row in [list(rows[0]), *(row.values() for row in rows)]))
    if path.suffix == ".jsonl":
        return write_text(path, "\n".join(map(json.dumps, rows)))
    if path.suffix == ".parquet":
        arrow = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(arrow.Table.from_pylist(rows), path, row_group_size=2)
        return path
    return write_json(path, rows if path.stem == "captions" else {"data": rows})


@pytest.mark.parametrize(
    "name", ["captions.csv", "captions.jsonl", "captions.json", "metadata.json", "captions.parquet"]
)
def test_splits_in_a_column_of_another_name_are_not_replaced_by_a_hash(tmp_path: Path, name: str) -> None:
    """Test images would be trained on. The message names the setting with which they are read."""
    splits = {"a": "train", "b": "dev", "c": "test", "d": "train"}
    rows = [
        {"image": f"{key}.png", "caption": f"a {key}", "place": "indoors", "source": "train", "subset": split}
        for key, split in splits.items()
    ]
    write_images(tmp_path, [row["image"] for row in rows])
    _write_rows(tmp_path / name, rows)
    config = FolderConfig(root=str(tmp_path), captions=name)
    with pytest.raises(DataError, match=r"'subset' holds nothing but names of splits. Set data.split_column=subset"):
        load_dataset(config, "train")
    config.split_column = "subset"
    assert {split: list(load_dataset(config, split).references) for split in ("train", "val", "test")} == {
        "train": ["a", "d"],
        "val": ["b"],
        "test": ["c"],
    }
    del rows[1:3]  # "train" alone may be said of all rows: of another data set, for example
    _write_rows(tmp_path / name, rows)
    config.split_column, config.val_fraction = None, 0.0
    assert len(load_dataset(config, "train")) == 2
