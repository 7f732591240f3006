"""The n-gram model compared with a direct implementation of its equation, and the laws of probability."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.metrics.ngram_language_model import NgramLanguageModel

TEXTS = st.lists(st.integers(0, 4), min_size=1, max_size=60)


def recursive(text: list[int], history: list[int], token: int, vocabulary_size: int) -> float:
    """The equation, counting in the whole text for every probability."""
    shorter = recursive(text, history[1:], token, vocabulary_size) if history else 1 / vocabulary_size
    n = len(history)
    followers = [text[i + n] for i in range(len(text) - n) if text[i : i + n] == history]
    if not followers:
        return shorter
    types = len(set(followers))
    return (followers.count(token) + types * shorter) / (len(followers) + types)


@given(TEXTS, st.lists(st.integers(0, 4), max_size=5), st.integers(0, 3))
@settings(deadline=None, max_examples=50)
def test_equation_and_sum_of_probabilities(text: list[int], context: list[int], order: int) -> None:
    model = NgramLanguageModel(text, order, 5)
    for k in range(order + 1):
        history = context[len(context) - min(k, len(context)) :]
        found = [model.probabilities(context, token)[k] for token in range(5)]
        assert sum(found) == pytest.approx(1)
        assert found == pytest.approx([recursive(text, history, token, 5) for token in range(5)])


def test_by_hand() -> None:
    """a b a b: p₀(a) = (2 + 2·½)/(4 + 2) = ½; p₁(b | a) = (2 + 1·½)/(2 + 1) = 5/6."""
    model = NgramLanguageModel([0, 1, 0, 1], 1, 2)
    assert model.probabilities([0], 1) == pytest.approx([1 / 2, 5 / 6])
    assert model.bits([0, 1]) == pytest.approx([1.0, (1.0 - math.log2(5 / 6)) / 2])


def test_longer_contexts_help_in_a_repetitive_text() -> None:
    text = [0, 1, 2, 0, 2, 1] * 30
    bits = NgramLanguageModel(text, 2, 3).bits(text)
    assert bits[0] == pytest.approx(math.log2(3), abs=1e-3)
    assert bits[2] < 0.2 < bits[1]
