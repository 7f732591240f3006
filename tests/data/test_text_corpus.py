"""From a text file to streams: the order of tokens, the held-out splits at the end, and errors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.config import TextConfig
from captioner.data.text_corpus import load_text, read_text, text_streams, windows_per_epoch
from captioner.errors import DataError

TEXT = "".join(chr(ord("a") + i % 7) for i in range(1000)) + "é" + "xyz" * 20


def test_the_splits_follow_each_other_and_cover_the_text(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    parts = load_text(TextConfig(text=str(path), val_fraction=0.1, test_fraction=0.05))
    assert (len(parts.val), len(parts.test)) == (len(TEXT) // 10, len(TEXT) // 20)
    said = parts.vocabulary.decode(torch.cat([parts.train, parts.val, parts.test]).tolist())
    unknown = {"é", "x", "y", "z"}
    assert said == ["<UNK>" if character in unknown else character for character in TEXT]
    assert parts.count_unknown("test") == len(parts.test)
    assert parts.name == "text.txt"


def test_words_and_rare_words(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("one two one two three, " * 30 + "rare " + "one " * 10)
    parts = load_text(TextConfig(text=str(path), level="words", min_count=2))
    assert set(parts.vocabulary.tokens[4:]) == {"one", "two", "three", ","}


def test_characters_are_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes("\ufeffa\r\nb\tc\u2028\x00".encode())
    assert read_text(path) == "a\r\nb\tc\u2028\x00"


def test_files_that_are_not_text_are_an_error(tmp_path: Path) -> None:
    latin, empty, short = (tmp_path / name for name in ("latin.txt", "empty.txt", "short.txt"))
    latin.write_bytes(b"abc\xe9def")
    empty.write_text(" \n")
    short.write_text("abc")
    with pytest.raises(DataError, match=r"latin\.txt is not UTF-8 text \(byte 3"):
        read_text(latin)
    with pytest.raises(DataError, match="is empty"):
        read_text(empty)
    with pytest.raises(DataError, match="is a folder"):
        read_text(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        read_text(tmp_path / "none")
    with pytest.raises(DataError, match="too few for a val and a test split"):
        load_text(TextConfig(text=str(short)))


@given(st.integers(2, 300), st.integers(1, 6), st.integers(1, 20), st.integers(0, 9), st.integers(0, 9))
@settings(deadline=None, max_examples=80)
def test_streams_are_consecutive_pieces_of_the_text(
    count: int, streams: int, window: int, seed: int, epoch: int
) -> None:
    tokens = torch.arange(10, 10 + count)
    if (count - window) // streams < 2:
        with pytest.raises(DataError, match="too few for trainer"):
            windows_per_epoch(count, streams, window)
        return
    inputs, targets = text_streams(tokens, streams, window, 1, seed, epoch)
    assert inputs.shape == targets.shape
    assert torch.equal(targets.flatten(), torch.arange(len(targets.flatten())) + targets[0, 0]), "no gap, no overlap"
    assert torch.equal(inputs[:, 1:], targets[:, :-1])
    assert bool((inputs[:, 0] == 1).all())
    assert len(targets.flatten()) > count - window - streams
    assert windows_per_epoch(count, streams, window) == -(-targets.shape[1] // window)


def test_the_first_token_varies_between_epochs() -> None:
    starts = {int(text_streams(torch.arange(1000), 4, 32, 1, 0, epoch)[1][0, 0]) for epoch in range(20)}
    assert len(starts) > 5
