"""The search is METEOR's, also where it is not the paper's: the jar's answers, and what every alignment must hold."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.metrics.meteor.alignment import EXACT, PARAPHRASE, STEM, SYNONYM, Alignment, Match, align

WORDS = st.lists(st.sampled_from("abc"), max_size=9)


def exact(hypothesis: str, reference: str) -> list[Match]:
    """The candidates of captions whose words are letters."""
    return [
        Match(start, 1, other, 1, EXACT)
        for start, word in enumerate(reference)
        for other, letter in enumerate(hypothesis)
        if word == letter
    ]


@pytest.mark.parametrize(
    ("hypothesis", "reference", "pairs"),
    [
        ("a", "aa", [(1, 0)]),  # not the nearer one: the distance counts for the candidates that come later
        ("a", "aaaa", [(1, 0)]),
        ("a", "abba", [(3, 0)]),
        ("aa", "aaa", [(0, 0), (1, 1)]),
        ("ab", "abab", [(2, 0), (3, 1)]),
        ("ab", "cbb", [(2, 1)]),
        ("aba", "bab", [(1, 0), (2, 1)]),
        ("abcb", "accc", [(0, 0), (1, 2)]),
        ("abc", "aacc", [(1, 0), (3, 2)]),
        ("aab", "acbb", [(0, 0), (3, 2)]),
    ],
)
def test_the_jar_s_choice(hypothesis: str, reference: str, pairs: list[tuple[int, int]]) -> None:
    alignment = align(exact(hypothesis, reference), len(reference), len(hypothesis))
    assert [(match.start, match.hypothesis_start) for match in alignment.matches] == pairs


def test_a_single_word_that_is_not_certain_is_taken_only_without_a_chunk() -> None:
    both = [Match(0, 1, 0, 1, STEM), Match(0, 1, 0, 1, SYNONYM)]
    assert align(both, 1, 1) == Alignment((), 0)
    assert align(both[:1], 1, 1) == Alignment((both[0],), 1)  # no other candidate touches it: it is certain
    beside_an_exact_one = [Match(1, 1, 1, 1, EXACT), *both]
    assert align(beside_an_exact_one, 2, 2) == Alignment((both[0], beside_an_exact_one[0]), 1)


def test_a_phrase_counts_half_its_words() -> None:
    phrase, word = Match(0, 5, 0, 2, PARAPHRASE), Match(0, 1, 0, 1, EXACT)
    assert align([word, phrase], 5, 2).matches == (phrase,)  # 2 + 1 against 2
    twice = [word, Match(4, 1, 1, 1, EXACT), phrase]
    assert align(twice, 5, 2).matches == (word, twice[1])  # 4 against 3


@settings(deadline=None)
@given(WORDS, WORDS)
def test_every_word_is_matched_once_and_chunks_are_counted(hypothesis: list[str], reference: list[str]) -> None:
    matches, chunks = align(exact("".join(hypothesis), "".join(reference)), len(reference), len(hypothesis))
    starts, others = [match.start for match in matches], [match.hypothesis_start for match in matches]
    assert starts == sorted(set(starts))
    assert len(set(others)) == len(others)
    assert all(reference[start] == hypothesis[other] for start, other in zip(starts, others, strict=True))
    pairs = list(zip(starts, others, strict=True))
    assert chunks == sum((start - 1, other - 1) not in pairs for start, other in pairs)


@settings(deadline=None)
@given(WORDS)
def test_a_caption_is_one_chunk_of_itself(words: list[str]) -> None:
    matches, chunks = align(exact("".join(words), "".join(words)), len(words), len(words))
    assert [(match.start, match.hypothesis_start) for match in matches] == [(i, i) for i in range(len(words))]
    assert chunks == bool(words)
