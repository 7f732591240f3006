"""The search over arrays finds what the search of one pair finds, on made-up words without METEOR's resources."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.metrics.meteor import captions, meteor
from captioner.metrics.meteor.alignment import align
from captioner.metrics.meteor.captions import join
from captioner.metrics.meteor.meteor import Meteor
from captioner.metrics.meteor.statistics import addable, scores
from captioner.metrics.meteor.stemmer import stem
from tests.metrics.meteor.one_pair import count, find_matches, modules_of
from tests.metrics.meteor.small import FUNCTION_WORDS, SYNSETS, TABLE, WORDS, small_meteor

caption = st.lists(st.sampled_from(WORDS), max_size=11)
# Few words: many ties, and more hypotheses than the beam holds.
repetitive = st.lists(st.sampled_from(["the", "cat", "of"]), max_size=11)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Meteor:
    return small_meteor(tmp_path_factory.mktemp("meteor"))


def share_a_synset(one: str, other: str) -> bool:
    return bool(synsets(one) & synsets(other))


def synsets(word: str) -> set[str]:
    """Those of the word or, for a plural, of its base form."""
    return set(SYNSETS.get(word, SYNSETS.get(word.removesuffix("s"), "")).split())


def one_pair(hypothesis: list[str], reference: list[str]) -> list[int]:
    modules = modules_of(lambda one, other: stem(one) == stem(other), share_a_synset)
    matches = find_matches(hypothesis, reference, modules, TABLE)
    return count(hypothesis, reference, align(matches, len(reference), len(hypothesis)), FUNCTION_WORDS)


def check(small: Meteor, pairs: list[tuple[list[str], list[str]]]) -> None:
    found = small.statistics([" ".join(one) for one, _ in pairs], [[" ".join(other)] for _, other in pairs])
    np.testing.assert_array_equal(found, [one_pair(*pair) for pair in pairs])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(caption, caption), min_size=1, max_size=20))
def test_equals_the_search_of_one_pair(small: Meteor, pairs: list[tuple[list[str], list[str]]]) -> None:
    check(small, pairs)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(repetitive, repetitive), min_size=1, max_size=8))
def test_with_more_hypotheses_than_the_beam_holds(small: Meteor, pairs: list[tuple[list[str], list[str]]]) -> None:
    check(small, pairs)


def test_long_captions(small: Meteor) -> None:
    """Beyond the words that the search over arrays takes."""
    long = ["the", "cat", "of", "dogs", "big", "lion"] * 12
    check(
        small, [(long, long[:30]), (long[1:], long), (["cat"], ["cat"]), (long[:60], long[:61]), (long[:61], ["the"])]
    )


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(caption, st.lists(caption, min_size=1, max_size=4)), min_size=1, max_size=6))
def test_the_best_reference_is_the_first_of_the_best(
    small: Meteor, images: list[tuple[list[str], list[list[str]]]]
) -> None:
    found = small.statistics(
        [" ".join(one) for one, _ in images], [[" ".join(other) for other in others] for _, others in images]
    )
    for row, (one, others) in zip(found, images, strict=True):
        rows = np.array([one_pair(one, other) for other in others], np.float64)
        assert row.tolist() == rows[int(np.argmax(scores(addable(rows))))].tolist()


def test_few_pairs_at_once_give_the_same(small: Meteor, monkeypatch: pytest.MonkeyPatch) -> None:
    hypotheses = ["the cat of the dog", "dogs", "", "big wolf lion the", "hound"]
    references = [["wolf lion", "the dog of cats"], ["the dog"], ["cat"], ["big dog lion", "a"], ["wolf", "dog"]]
    together = small.statistics(hypotheses, references)
    monkeypatch.setattr(meteor, "WORD_PAIRS_AT_ONCE", 9)
    np.testing.assert_array_equal(small.statistics(hypotheses, references), together)


def test_captions_are_encoded_one_by_one_or_together(small: Meteor) -> None:
    texts = ["the cat of the dog", "", "big cat, lion", "zzq's cat"]
    together = small.lexicon.encode(texts)
    for one, other in zip(together, join([small.lexicon.encode([text]) for text in texts]), strict=True):
        np.testing.assert_array_equal(one, other)
    assert together.lengths.tolist() == [5, 0, 4, 3]


def test_no_captions(small: Meteor) -> None:
    assert small.statistics([], []).shape == (0, 23)
    assert small.statistics(["", "cat"], [[""], ["", ""]])[:, 4:].sum() == 0


def test_words_are_described_once(small: Meteor, monkeypatch: pytest.MonkeyPatch) -> None:
    before = small.statistics(["the cat"], [["cats"]])
    monkeypatch.setattr(captions, "stem", lambda word: pytest.fail("looked up again"))
    np.testing.assert_array_equal(small.statistics(["the cat"], [["cats"]]), before)
