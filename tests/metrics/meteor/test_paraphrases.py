"""The index answers as the table it was made of, is made once, and is made again where it does not fit."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from captioner.metrics.java import MetricUnavailable
from captioner.metrics.meteor import paraphrases
from captioner.metrics.meteor.paraphrases import Paraphrases, open_paraphrases

TABLE = [("big", "large"), ("in front of", "before"), ("big", "huge"), ("large", "big"), ("big", "a big")]


def write_table(path: Path, table: list[tuple[str, str]]) -> Path:
    path.write_bytes(gzip.compress("".join(f"0.5\n{first}\n{second}\n" for first, second in table).encode()))
    return path


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = write_table(tmp_path / "table.gz", TABLE)
    monkeypatch.setattr(paraphrases, "find_in_pycocoevalcap", lambda metric, name: path)
    return path


def listed(index: Paraphrases, phrase: str) -> list[str]:
    """The paraphrases of a phrase, spelled out."""
    names = list({phrase: None for pair in TABLE for phrase in pair})
    spelled = dict(zip(index.find(names).tolist(), names, strict=True))
    (place,) = index.find([phrase]).tolist()
    return [] if place < 0 else [spelled[other] for other in index.of(place)]


def test_the_index_is_the_table_in_its_order(table: Path, tmp_path: Path) -> None:
    index = open_paraphrases(tmp_path / "cache")
    assert listed(index, "big") == ["large", "huge", "a big"]
    assert listed(index, "in front of") == ["before"]
    assert listed(index, "before") == listed(index, "in front") == []


def test_it_is_made_once(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_paraphrases(tmp_path / "cache")
    monkeypatch.setattr(paraphrases, "_make", lambda folder, source: pytest.fail("made again"))
    assert listed(open_paraphrases(tmp_path / "cache"), "large") == ["big"]
    assert not list((tmp_path / "cache").glob(".*")), "no temporary folder is left"


@pytest.mark.parametrize("damage", ["phrases.npy", "starts.npy", "index.json"])
def test_a_damaged_one_is_made_again(table: Path, tmp_path: Path, damage: str) -> None:
    open_paraphrases(tmp_path / "cache")
    (file,) = (tmp_path / "cache").glob(f"*/{damage}")
    file.write_bytes(file.read_bytes()[:-5])
    assert listed(open_paraphrases(tmp_path / "cache"), "large") == ["big"]


def test_one_of_another_table_is_made_again(table: Path, tmp_path: Path) -> None:
    open_paraphrases(tmp_path / "cache")
    write_table(table, [*TABLE, ("large", "huge")])
    assert listed(open_paraphrases(tmp_path / "cache"), "large") == ["big", "huge"]


def test_a_table_that_cannot_be_read(table: Path, tmp_path: Path) -> None:
    table.write_bytes(b"no gzip file")
    with pytest.raises(MetricUnavailable, match="cannot be read"):
        open_paraphrases(tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
