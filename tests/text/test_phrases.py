"""Phrase statistics against their definition, computed from all n-grams in plain Python."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest

from captioner.errors import DataError
from captioner.text.phrases import DOUBLED, ENDING, KINDS, UNSEEN, PhraseStatistics

END = 0
A, MAN, BIKE, IN, RED, AND = range(1, 7)
WORDS = range(1, 9)


class Oracle:
    """The definition in the module's docstring, word by word; nothing is left out of the counts."""

    def __init__(self, captions: Sequence[Sequence[int]]) -> None:
        self.count: Counter[tuple[int, ...]] = Counter()
        for caption in captions:
            words = (*caption, END)
            for n in range(1, 5):
                self.count.update(words[i : i + n] for i in range(len(words) - n + 1))
        self.tokens = sum(count for gram, count in self.count.items() if len(gram) == 1)
        self.known = {phrase for caption in captions for phrase in self.repeats(tuple(caption))}

    def hardly_ends(self, words: tuple[int, ...]) -> bool:
        return (self.count[(*words, END)] + 0.5) * 500 <= self.count[words]

    def unseen(self, caption: tuple[int, ...]) -> Counter[tuple[int, ...]]:
        words, found = (*caption, END), Counter[tuple[int, ...]]()
        for n, limit in ((2, 0.005), (3, 0.08), (4, 0.1)):
            for gram in (words[i : i + n] for i in range(len(words) - n + 1)):
                shared = self.tokens if n == 2 else self.count[gram[1:-1]]
                parts = self.count[gram[:-1]] * self.count[gram[1:]]
                if (
                    parts
                    and (self.count[gram] + 0.5) / (parts / shared) <= limit
                    and (n > 2 or self.hardly_ends(gram[:1]))
                ):
                    found[gram] += 1
        return found

    def repeats(self, caption: tuple[int, ...]) -> Counter[tuple[int, ...]]:
        """Every phrase that occurs twice in a row, or with one word between."""
        found: Counter[tuple[int, ...]] = Counter()
        for first in range(len(caption)):
            for length in range(1, 7):
                phrase = caption[first : first + length]
                for gap in (0, 1) if length > 1 else (0,):
                    again = caption[first + length + gap : first + 2 * length + gap]
                    if len(phrase) == length and phrase == again and not (gap and self.hardly_ends(phrase[-1:])):
                        found[caption[first : first + 2 * length + gap]] += 1
        return found

    def find(self, caption: Sequence[int]) -> Counter[tuple[str, tuple[int, ...]]]:
        words = tuple(caption)
        found = Counter({(UNSEEN, gram): count for gram, count in self.unseen(words).items()})
        found += Counter({(DOUBLED, p): count for p, count in self.repeats(words).items() if p not in self.known})
        if not words or self.hardly_ends(words[-1:]) or (len(words) > 1 and self.hardly_ends(words[-2:])):
            found[(ENDING, (*words[-2:], END))] += 1
        return found


def random_captions(seed: int, count: int) -> list[list[int]]:
    """Captions of a chain in which the last three words decide which few may follow: many n-grams never occur."""
    rule, choose = random.Random(seed), random.Random(f"{seed} {count}")
    follow: dict[tuple[int, ...], list[int]] = {}
    captions = []
    for _ in range(count):
        caption = [choose.choice(WORDS)]
        while len(caption) < 12:
            last = tuple(caption[-3:])
            if last not in follow:
                follow[last] = rule.choices([*WORDS, END], k=2)
            word = choose.choice(follow[last])
            if word == END:
                break
            caption.append(word)
        captions.append(caption)
    return captions


@cache
def corpus(seed: int) -> tuple[PhraseStatistics, Oracle]:
    captions = random_captions(seed, 4000)
    return PhraseStatistics.from_captions(captions, END), Oracle(captions)


def shuffled_captions(seed: int, count: int) -> list[list[int]]:
    choose = random.Random(seed + 100)
    return [choose.choices(WORDS, k=choose.randrange(0, 15)) for _ in range(count)]


@pytest.mark.parametrize("seed", range(6))
def test_finds_what_the_definition_finds(seed: int) -> None:
    statistics, oracle = corpus(seed)
    seen: Counter[str] = Counter()
    for caption in [*shuffled_captions(seed, 300), *random_captions(seed + 50, 100)]:
        found = Counter((phrase.kind, phrase.words) for phrase in statistics.find(caption))
        assert found == oracle.find(caption), caption
        seen.update(kind for kind, _ in found)
    assert set(KINDS) <= set(seen)


@pytest.mark.parametrize("seed", range(3))
def test_forbidden_tokens_are_those_that_complete_a_phrase(seed: int) -> None:
    statistics, oracle = corpus(seed)
    for caption in shuffled_captions(seed, 60):
        for kinds in [(UNSEEN,), (DOUBLED,), (ENDING,), KINDS]:
            before = oracle.find(caption)
            completing = set()
            for word in WORDS:
                # A phrase that ends in <END> is none before <END>.
                more = oracle.find([*caption, word]) - before
                if any(kind in kinds and phrase[-1] == word for kind, phrase in more):
                    completing.add(word)
            if any(kind in kinds and phrase[-1] == END for kind, phrase in before):
                completing.add(END)
            assert statistics.forbidden(caption, kinds) == completing, (caption, kinds)


def test_phrases_by_hand() -> None:
    captions = [[A, MAN, IN, A, RED, BIKE]] * 300 + [[A, BIKE, IN, A, MAN]] * 300 + [[MAN, AND, MAN, AND, MAN]] * 2
    statistics = PhraseStatistics.from_captions(captions, END)

    def kinds(*caption: int) -> set[str]:
        return {phrase.kind for phrase in statistics.find(caption)}

    assert kinds(A, MAN, IN, A, RED, BIKE) == set()
    assert kinds() == {ENDING}
    assert ENDING in kinds(A, MAN, IN, A)
    assert DOUBLED in kinds(A, MAN, IN, A, MAN)  # "a man in a man"
    assert DOUBLED in kinds(A, A, MAN)
    assert DOUBLED not in kinds(MAN, AND, MAN, AND, MAN)  # the corpus has it
    assert UNSEEN in kinds(A, A, MAN)  # 1,200 of 6,000 words are "a", and it never follows itself


def test_unknown_words_are_never_unseen() -> None:
    statistics, _ = corpus(0)
    assert all(phrase.kind == ENDING for phrase in statistics.find([901, 902, 903, 904, 905]))


def test_few_captions_make_nothing_implausible_but_repetition() -> None:
    statistics = PhraseStatistics.from_captions([[A, MAN]], END)
    assert statistics.find([MAN, A, IN, BIKE]) == []
    assert {phrase.kind for phrase in statistics.find([A, A])} == {DOUBLED}


def test_the_order_of_the_captions_does_not_matter() -> None:
    captions = random_captions(1, 500)
    assert PhraseStatistics.from_captions(captions, END) == PhraseStatistics.from_captions(captions[::-1], END)


def test_flat_captions_have_the_statistics_of_lists() -> None:
    captions = [*random_captions(4, 2000), [], [A, A], [MAN, AND, MAN, AND, MAN, A], [A, MAN] * 6, [A] * 14, []]
    offsets = np.cumsum([0, *map(len, captions)])
    tokens = np.array([word for caption in captions for word in caption], np.int32)
    statistics = PhraseStatistics.from_flat(tokens, offsets, END)
    assert statistics == PhraseStatistics.from_captions(captions, END)
    assert all(len(phrase) in range(2, 14) for phrase in statistics.doubled)
    assert {(A, A), (A, MAN) * 6, (MAN, AND, MAN, AND)} <= statistics.doubled


@pytest.mark.parametrize("seed", range(3))
def test_doubled_phrases_of_the_corpus_are_those_of_each_caption(seed: int) -> None:
    captions = [*shuffled_captions(seed, 2000), *([word] * 15 for word in WORDS)]
    statistics = PhraseStatistics.from_captions(captions, END)
    empty = dataclasses.replace(statistics, doubled=frozenset())
    assert statistics.doubled == {
        phrase.words for caption in captions for phrase in empty.find(caption) if phrase.kind == DOUBLED
    }


def test_arrays_keep_everything() -> None:
    statistics, _ = corpus(2)
    arrays = statistics.to_arrays()
    assert all(array.dtype == np.int32 for array in arrays.values())
    for n in range(1, 5):
        rows = arrays[f"counts_{n}"].tolist()
        assert rows == sorted([*gram, count] for gram, count in statistics.counts.items() if len(gram) == n)
    again = PhraseStatistics.from_arrays(arrays)
    assert again == statistics
    for caption in shuffled_captions(2, 50):
        assert again.find(caption) == statistics.find(caption)


def test_a_vocabulary_of_more_than_65535_words() -> None:
    rare = [[word] for word in range(100, 70_000)]
    statistics = PhraseStatistics.from_captions([*rare, *random_captions(3, 4000)], END)
    alone = PhraseStatistics.from_captions(random_captions(3, 4000), END)
    assert {gram: count for gram, count in statistics.counts.items() if len(gram) == 4} == {
        gram: count for gram, count in alone.counts.items() if len(gram) == 4
    }


def test_no_captions() -> None:
    with pytest.raises(DataError, match="at least one caption"):
        PhraseStatistics.from_captions([], END)
