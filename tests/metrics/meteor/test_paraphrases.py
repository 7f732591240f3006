"""The index answers as the table it was made of, is made once, and is made again where it does not fit."""

from __future__ import annotations

import gzip
import random
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest

from captioner.metrics.java import MetricUnavailable
from captioner.metrics.meteor import paraphrase_table, paraphrase_text, paraphrases
from captioner.metrics.meteor.paraphrases import (
    MULTIPLIER,
    Paraphrases,
    hash_words,
    index_made_beside,
    open_paraphrases,
)

TABLE = [("big", "large"), ("in front of", "before"), ("big", "huge"), ("large", "big"), ("big", "a big")]


def write_table(path: Path, table: list[tuple[str, str]]) -> Path:
    path.write_bytes(gzip.compress("".join(f"0.5\n{first}\n{second}\n" for first, second in table).encode()))
    return path


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = write_table(tmp_path / "table.gz", TABLE)
    monkeypatch.setattr(paraphrases, "find_in_pycocoevalcap", lambda metric, name: path)
    return path


def phrase_hash(phrase: str) -> int:
    """That of the module's docstring, with Python's integers."""
    total = 0
    for word in hash_words(phrase.split(" ")).tolist():
        total = (total * int(MULTIPLIER) + word) % 2**64
    return total


def listed(index: Paraphrases, phrase: str) -> list[str]:
    """The paraphrases of a phrase, spelled out."""
    names = list({phrase: None for pair in TABLE for phrase in pair})
    hashes = np.array([phrase_hash(name) for name in names], np.uint64)
    assert index.may_contain(hashes).all()
    spelled = dict(zip(index.find(hashes).tolist(), names, strict=True))
    (place,) = index.find(np.array([phrase_hash(phrase)], np.uint64)).tolist()
    return (
        []
        if place < 0
        else [spelled[other] for other in index.paraphrases[index.starts[place] : index.starts[place + 1]]]
    )


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


@pytest.mark.parametrize("damage", ["phrases.npy", "starts.npy", "filter.npy", "index.json"])
def test_a_damaged_one_is_made_again(table: Path, tmp_path: Path, damage: str) -> None:
    open_paraphrases(tmp_path / "cache")
    (file,) = (tmp_path / "cache").glob(f"*/{damage}")
    file.write_bytes(file.read_bytes()[:-5])
    assert listed(open_paraphrases(tmp_path / "cache"), "large") == ["big"]


@pytest.mark.parametrize("array", ["phrases", "starts", "filter", "paraphrases"])
def test_one_with_a_changed_byte_is_made_again(table: Path, tmp_path: Path, array: str) -> None:
    """Its last byte, which is among the values: no length shows that."""
    open_paraphrases(tmp_path / "cache")
    (file,) = (tmp_path / "cache").glob(f"*/{array}.npy")
    good = file.read_bytes()
    file.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert listed(open_paraphrases(tmp_path / "cache"), "large") == ["big"]
    assert file.read_bytes() == good


def test_one_of_another_table_is_made_again(table: Path, tmp_path: Path) -> None:
    open_paraphrases(tmp_path / "cache")
    write_table(table, [*TABLE, ("large", "huge")])
    assert listed(open_paraphrases(tmp_path / "cache"), "large") == ["big", "huge"]


@pytest.mark.parametrize("block", [1, 7, 40])
def test_the_table_is_read_in_blocks(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    """Whatever part of a pair is at the end of one."""
    monkeypatch.setattr(paraphrase_table, "_BLOCK", block)
    monkeypatch.setattr(paraphrase_table, "_AT_ONCE", 2)
    index = open_paraphrases(tmp_path / "cache")
    assert [listed(index, name) for name in ("big", "large")] == [["large", "huge", "a big"], ["big"]]
    assert not index.may_contain(hash_words(["never"]))[0]


@pytest.mark.parametrize("slot_bits", [1, 19])
@pytest.mark.parametrize("block", [30, 1 << 17])
def test_any_text_is_hashed_as_the_docstring_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, slot_bits: int
) -> None:
    """Long and empty words, letters of several bytes, runs that end and begin again; also where keys share a slot."""
    monkeypatch.setattr(paraphrase_table, "_BLOCK", block)
    monkeypatch.setattr(paraphrase_text, "_SLOT_BITS", slot_bits)
    rng = random.Random(block)
    words = ["", "a", "b", "ab", "ba", "a\0", "é", "ß", "\t", "donaudampfschifffahrt", *"cdefgh"]
    phrases = [" ".join(rng.choices(words, k=rng.randint(1, 7))) for _ in range(40)]
    table = [(first, rng.choice(phrases)) for first in rng.choices(phrases, k=90) for _ in range(rng.randint(1, 4))]
    index = paraphrase_table.read_table(write_table(tmp_path / "table.gz", table))

    hashes = sorted({phrase_hash(phrase) for pair in table for phrase in pair})
    assert index.phrases.tolist() == hashes
    expected: dict[int, list[int]] = {hash_: [] for hash_ in hashes}
    for first, second in table:
        expected[phrase_hash(first)].append(hashes.index(phrase_hash(second)))
    assert index.starts.tolist() == [0, *accumulate(map(len, expected.values()))]
    assert index.paraphrases.tolist() == [place for places in expected.values() for place in places]
    assert index.may_contain(index.phrases).all()


@pytest.mark.parametrize(
    "content",
    [b"no gzip file", gzip.compress(b"0.5\nbig\n", mtime=0), gzip.compress(b"0.5\nbig\n\xff\n"), b""],
    ids=["text", "cut", "not UTF-8", "empty"],
)
def test_a_table_that_cannot_be_read(table: Path, tmp_path: Path, content: bytes) -> None:
    """Something else, a pair without its end, bytes that are no letters, or nothing at all."""
    table.write_bytes(content)
    with pytest.raises(MetricUnavailable, match="cannot be read"):
        open_paraphrases(tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_damaged_gzip_file(table: Path, tmp_path: Path) -> None:
    table.write_bytes(table.read_bytes()[:-12])
    with pytest.raises(MetricUnavailable, match="--force-reinstall"):
        open_paraphrases(tmp_path / "cache")


def test_a_cache_that_cannot_be_written(table: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MetricUnavailable, match="CAPTIONER_CACHE"):
        open_paraphrases(tmp_path / "file")


def test_another_process_makes_it_where_there_is_none(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process is replaced by its code run here, where the small table is known."""
    monkeypatch.setenv("CAPTIONER_CACHE", str(tmp_path / "cache"))
    started = []

    @contextmanager
    def run_here(commands: list[list[str]]) -> Iterator[None]:
        started.append(len(commands))
        for option, code in commands:
            assert option == "-c"
            exec(code, {})
        yield

    monkeypatch.setattr(paraphrases, "helpers", run_here)
    with index_made_beside():
        pass
    monkeypatch.setattr(paraphrases, "_make", lambda folder, source: pytest.fail("made again"))
    assert listed(open_paraphrases(tmp_path / "cache"), "large") == ["big"]
    with index_made_beside():
        pass
    assert started == [1, 0]
