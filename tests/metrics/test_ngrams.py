"""The table of n-grams, compared with counters of word tuples."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.metrics import ngrams
from captioner.metrics.ngrams import CaptionTable, NgramCounts, count_ngrams, encode

caption = st.lists(st.sampled_from("abcd"), max_size=9)
images = st.lists(st.tuples(caption, st.lists(caption, min_size=1, max_size=4)), min_size=1, max_size=5)


def tuples(words: list[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def words_of(table: CaptionTable, counts: NgramCounts, vocabulary: list[str], n: int) -> list[tuple[str, ...]]:
    """The n-gram of each entry, as words."""
    starts = counts.position[counts.start]
    return [tuple(vocabulary[token] for token in table.tokens[start : start + n]) for start in starts]


@settings(max_examples=100, deadline=None)
@given(images)
def test_counts_equal_those_of_counters(pairs: list[tuple[list[str], list[list[str]]]]) -> None:
    hypotheses, references = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    table = encode(hypotheses, references)
    flat = [words for hypothesis, captions in pairs for words in (hypothesis, *captions)]
    vocabulary = sorted({word for words in flat for word in words})
    for n, counts in enumerate(count_ngrams(table), start=1):
        grams = words_of(table, counts, vocabulary, n)
        expected = {
            (gram, index): times for index, words in enumerate(flat) for gram, times in tuples(words, n).items()
        }
        assert dict(zip(zip(grams, counts.caption, strict=True), counts.count, strict=True)) == expected

        document_frequency = Counter(
            gram for captions in references for gram in {gram for words in captions for gram in tuples(words, n)}
        )
        for gram, number in zip(grams, counts.gram, strict=True):
            assert counts.document_frequency[number] == document_frequency[gram]

        shared = {
            (gram, int(table.hypothesis[image]), int(table.hypothesis[image]) + 1 + index)
            for image, (hypothesis, captions) in enumerate(pairs)
            for index, words in enumerate(captions)
            for gram in tuples(words, n).keys() & tuples(hypothesis, n).keys()
        }
        found = [
            (grams[reference], int(counts.caption[hypothesis]), int(counts.caption[reference]))
            for reference, hypothesis in zip(counts.shared_reference, counts.shared_hypothesis, strict=True)
        ]
        assert len(found) == len(shared)
        assert set(found) == shared
        assert all(grams[r] == grams[h] for r, h in zip(counts.shared_reference, counts.shared_hypothesis, strict=True))


def test_keys_too_large_for_one_integer_are_sorted_too() -> None:
    """Above 64 bits, keys and positions are sorted separately."""
    generator = np.random.default_rng(0)
    keys, position = generator.integers(50, size=400), np.arange(400)
    together = ngrams._sort_with(keys, position, key_limit=50)
    apart = ngrams._sort_with(keys, position, key_limit=1 << 60)
    for left, right in zip(together, apart, strict=True):
        np.testing.assert_array_equal(left, right)


def test_numbers_of_hypotheses_and_references_must_be_equal() -> None:
    with pytest.raises(ValueError, match="argument"):
        encode([["a"]], [])
