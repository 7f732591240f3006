"""Words in a text against a comparison of whole words."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner.text.occurrences import has_words

TEXTS = st.text("ab .", max_size=12)


def words_of(text: str) -> list[str]:
    return re.findall("[ab]+|[.]|[ ]", text)


@given(TEXTS, st.sampled_from(["a", "ab", "a b", "b a", "aa"]))
def test_whole_words_are_compared(text: str, words: str) -> None:
    parts, wanted = words_of(text), words_of(words)
    ends = [start + len(wanted) for start in range(len(parts)) if parts[start : start + len(wanted)] == wanted]
    assert has_words(text, words, ended=True) == bool(ends)
    assert has_words(text, words, ended=False) == any(end < len(parts) for end in ends)


@pytest.mark.parametrize(
    ("text", "words", "found"),
    [
        ("a car.", "car", True),
        ("a cart", "car", False),
        ("the café", "caf", False),
        ("a red-car race", "car", True),
        ("一只狗在跑", "狗", True),
        ("a 狗s", "狗", True),
        ("car", "car", True),
    ],
)
def test_by_hand(text: str, words: str, found: bool) -> None:
    assert has_words(text, words, ended=True) == found
