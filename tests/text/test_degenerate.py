"""Unusable captions: empty, or with a phrase three times in a row. No reference caption is one."""

from __future__ import annotations

import itertools

import pytest

from captioner.text.degenerate import repeated_phrase, why_unusable


@pytest.mark.parametrize(
    ("caption", "reason"),
    [
        ("", "is empty"),
        ("a a a", "repeats 'a'"),
        ("a dog runs a dog runs a dog runs", "repeats 'a dog runs'"),
        ("a man in a red in a red in a red shirt", "repeats 'in a red'"),
        ("a man and a man", None),
        ("a very very big dog", None),
        ("dog", None),
    ],
)
def test_why_unusable(caption: str, reason: str | None) -> None:
    assert why_unusable(caption.split()) == reason


def test_every_caption_of_a_small_vocabulary_as_by_brute_force() -> None:
    for length in range(8):
        for tokens in itertools.product("ab", repeat=length):
            text = " ".join(tokens)
            phrases = [" ".join(phrase) for n in range(1, 5) for phrase in itertools.product("ab", repeat=n)]
            expected = any(f" {p} {p} {p} " in f" {text} " for p in phrases)
            assert bool(repeated_phrase(tokens)) == expected, text
