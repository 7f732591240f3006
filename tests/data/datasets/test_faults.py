"""A table with many faults names each of them, once."""

from __future__ import annotations

from pathlib import Path

import pytest

from captioner.config import FolderConfig, TokenizerConfig
from captioner.data.check.check_dataset import unreadable_report
from captioner.data.datasets.faults import KINDS, Faults, TableError, shown_of_each_kind
from captioner.data.datasets.registry import available_splits
from captioner.errors import DataError
from tests.data.tiny import write_text

CSV = """image,caption,split
a.png,fine,train
b.png,too,many,train
c.png,wrong split,trian
,no name,val
a.jpg,same id as a.png,train
a.png,another split,val
../d.png,outside,val
e.png,fine,val
"""
JSONL = """{"image": "a.png", "caption": "fine", "split": "train"}
not json
{"image": "b.png", "captions": ["one", 2]}
{"caption": "no image"}
{"image": "a.png", "caption": "another split", "split": "val"}
"""


def _faults(root: Path, name: str, text: str) -> list[str]:
    write_text(root / name, text)
    with pytest.raises(TableError) as caught:
        available_splits(FolderConfig(root=str(root)))
    assert all(fault in str(caught.value) for fault in caught.value.faults)
    return [fault.removeprefix(f"{root / name}, ") for fault in caught.value.faults]


def test_every_faulty_row_of_a_csv_file_is_named(tmp_path: Path) -> None:
    beginnings = [
        "line 3: 4 columns, but the header has 3.",
        "line 4: there is no split 'trian'.",
        "line 5: the image has no name.",
        "line 6: a.jpg and a.png differ only in their suffix",
        "line 7: a.png is in val here and in train in an earlier line.",
        "line 8: '../d.png' is outside of",
    ]
    found = _faults(tmp_path, "captions.csv", CSV)
    assert [fault[: len(start)] for fault, start in zip(found, beginnings, strict=True)] == beginnings


def test_every_faulty_line_of_json_is_named(tmp_path: Path) -> None:
    found = _faults(tmp_path, "captions.jsonl", JSONL)
    assert [fault[:6] for fault in found] == ["line 2", "line 3", "line 4", "line 5"]


def test_a_long_list_is_cut_and_its_length_said() -> None:
    faults = Faults()
    for number in range(1, 1235):
        with faults.collected():
            raise DataError(f"line {number}: wrong.")
    with faults.collected():
        raise DataError("line 1: wrong.")  # said before
    with pytest.raises(TableError) as caught:
        faults.check()
    lines = str(caught.value).split("\n  ")
    assert (lines[0], lines[1], lines[10], lines[11]) == (
        "1,234 faults:",
        "line 1: wrong.",
        "line 10: wrong.",
        "and 1,224 more",
    )


def test_a_report_shows_a_few_of_each_kind_and_counts_all(tmp_path: Path) -> None:
    """Thousands of rows with a comma that is not quoted do not hide the one fault of another kind."""
    rows = [f"img {n}.png,a dog, and {n} cats,train" for n in range(2000)]
    rows += [f"b{n}.png,a dog,{split}" for n in range(5) for split in ("train", "val")]  # each in two splits
    rows.insert(1000, "c.png,a dog,trian")
    write_text(tmp_path / "captions.csv", "\n".join(["image,caption,split", *rows, ""]))
    config = FolderConfig(root=str(tmp_path))
    with pytest.raises(TableError) as caught:
        available_splits(config)
    assert len(caught.value.faults) == 2006
    lines = unreadable_report(config, TokenizerConfig(), caught.value).format().splitlines()
    assert "Found: 2,006 errors" in lines
    problems = [line.split("captions.csv, ", 1)[1] for line in lines if line.startswith("  error")]
    expected = ["line 2: 4 columns", "line 3: 4 columns", "line 4: 4 columns", "line 2002: 4 columns"]
    expected += ["line 1002: there is no split 'trian'"]
    expected += ["line 2004: b0.png is in val", "line 2006: b1.png", "line 2008: b2.png", "line 2012: b4.png"]
    assert [found[: len(start)] for found, start in zip(problems, expected, strict=True)] == expected
    assert sum("and 1,997 more of this kind, the last of which is: " in line for line in lines) == 1
    assert sum("and 2 more of this kind, the last of which is: " in line for line in lines) == 1


def test_a_report_tells_a_dozen_kinds_apart() -> None:
    faults = [f"{'x' * kind}: wrong." for kind in range(1, 101)]
    shown = shown_of_each_kind(faults)
    assert [text for text, _ in shown[:-1]] == faults[: KINDS + 3]
    assert shown[-1] == (f"and {85} more of other kinds, the last of which is: {faults[-1]}", 85)
    assert sum(count for _, count in shown) == 100
