"""BLEU's statistics and formula, computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.metrics import score_tokens
from captioner.metrics.bleu import BleuStatistics, bleu, bleu_statistics
from captioner.metrics.ngrams import count_ngrams, encode


def statistics_of(hypotheses: list[str], references: list[list[str]]) -> BleuStatistics:
    table = encode([text.split() for text in hypotheses], [[text.split() for text in texts] for texts in references])
    return bleu_statistics(table, count_ngrams(table))


def test_clipping_takes_the_reference_that_has_most() -> None:
    """The example of Papineni et al. 2002, section 2.1: "the" seven times, at most twice in one reference."""
    statistics = statistics_of(
        ["the the the the the the the"], [["the cat is on the mat", "there is a cat on the mat"]]
    )
    assert statistics.matched.tolist() == [[2, 0, 0, 0]]
    assert statistics.proposed.tolist() == [[7, 6, 5, 4]]


@pytest.mark.parametrize(
    ("hypothesis", "references", "closest"),
    [("a b c", ["a", "a b c d"], 4), ("a b c", ["a b c d", "a b"], 2), ("", ["a b", "a"], 1), ("a", ["", "a b"], 0)],
)
def test_the_shorter_of_two_equally_close_references_counts(
    hypothesis: str, references: list[str], closest: int
) -> None:
    assert statistics_of([hypothesis], [references]).reference_length.tolist() == [closest]


def test_corpus_value_by_hand() -> None:
    statistics = statistics_of(["a b c d e", "a b"], [["a b c d f g"], ["a b x"]])
    precisions = [6 / 7, 4 / 5, 2 / 3, 1 / 2]
    penalty = math.exp(1 - 9 / 7)
    expected = [penalty * math.prod(precisions[:n]) ** (1 / n) for n in range(1, 5)]
    assert bleu(statistics.total()) == pytest.approx(expected, rel=1e-8)


words = st.lists(st.sampled_from("abcde"), min_size=4, max_size=10)


@settings(max_examples=60, deadline=None)
@given(words, words, st.lists(words, min_size=1, max_size=4))
def test_a_caption_equal_to_a_reference_scores_highest(
    hypothesis: list[str], other: list[str], others: list[list[str]]
) -> None:
    references = [[other, *others]]
    best, any_score = score_tokens([other], references).corpus, score_tokens([hypothesis], references).corpus
    for n in range(1, 5):
        assert best[f"Bleu_{n}"] == pytest.approx(1.0, abs=1e-8)
        assert 0 <= any_score[f"Bleu_{n}"] <= best[f"Bleu_{n}"] + 1e-8


def test_rows_of_any_shape() -> None:
    """The bootstrap computes many corpus scores at once."""
    statistics = statistics_of(["a b c d e", "a b"], [["a b c d f g"], ["a b x"]])
    stacked = BleuStatistics(*(np.stack([part, part[::-1]]) for part in statistics))
    assert bleu(stacked).shape == (2, 2, 4)
    np.testing.assert_array_equal(bleu(stacked)[1], bleu(statistics)[::-1])
