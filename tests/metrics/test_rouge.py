"""ROUGE-L and longest common subsequences, compared with dynamic programming."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.metrics import score_tokens
from captioner.metrics.ngrams import count_ngrams, encode
from captioner.metrics.rouge import BETA, _lcs, long_lcs

sequence = st.lists(st.integers(0, 5), max_size=40)


def table_lcs(first: list[int], second: list[int]) -> int:
    row = [0] * (len(second) + 1)
    for left in first:
        above = row[:]
        for j, right in enumerate(second, start=1):
            row[j] = above[j - 1] + 1 if left == right else max(above[j], row[j - 1])
    return row[-1]


@settings(max_examples=100, deadline=None)
@given(sequence, sequence)
def test_unbounded_lcs(first: list[int], second: list[int]) -> None:
    assert long_lcs(first, second) == table_lcs(first, second)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(sequence, st.lists(sequence, min_size=1, max_size=3)), min_size=1, max_size=4))
def test_all_pairs_at_once(pairs: list[tuple[list[int], list[list[int]]]]) -> None:
    table = encode(
        [[str(word) for word in hypothesis] for hypothesis, _ in pairs],
        [[[str(word) for word in reference] for reference in references] for _, references in pairs],
    )
    expected = [table_lcs(hypothesis, reference) for hypothesis, references in pairs for reference in references]
    assert _lcs(table, count_ngrams(table)[0]).tolist() == expected


def test_precision_and_recall_come_from_different_references() -> None:
    """The first reference contains the whole hypothesis; the hypothesis contains the whole second reference."""
    rouge = score_tokens([["a", "b", "c", "d"]], [[list("axbxcxdx"), ["b"]]], names=["ROUGE_L"]).corpus["ROUGE_L"]
    assert rouge == pytest.approx(1.0)
    alone = score_tokens([["a", "b", "c", "d"]], [[list("axbxcxdx")]], names=["ROUGE_L"]).corpus["ROUGE_L"]
    assert alone == pytest.approx((1 + BETA**2) * 0.5 / (0.5 + BETA**2))


def test_64_and_65_words() -> None:
    """The limit of a machine word."""
    for length in (63, 64, 65, 129):
        words = [f"w{index}" for index in range(length)]
        for references in ([words], [words[::2]], [[*words, "x"], ["y"]]):
            ours = score_tokens([words], [references], names=["ROUGE_L"]).corpus["ROUGE_L"]
            lcs = [table_lcs(list(map(hash, words)), list(map(hash, reference))) for reference in references]
            precision = max(n / length for n in lcs)
            recall = max(n / len(reference) for n, reference in zip(lcs, references, strict=True))
            assert ours == pytest.approx((1 + BETA**2) * precision * recall / (recall + BETA**2 * precision))


def test_an_empty_caption_is_one_empty_word() -> None:
    assert score_tokens([[]], [[[]]], names=["ROUGE_L"]).corpus["ROUGE_L"] == pytest.approx(1.0)
    assert score_tokens([[]], [[["a"], ["b", "c"]]], names=["ROUGE_L"]).corpus["ROUGE_L"] == 0.0
    assert score_tokens([["a"]], [[[]]], names=["ROUGE_L"]).corpus["ROUGE_L"] == 0.0
