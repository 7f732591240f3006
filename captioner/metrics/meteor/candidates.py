"""Candidate matches of many pairs of captions, in the order in which METEOR's modules find them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from captioner.metrics.meteor.alignment import EXACT, PARAPHRASE, STEM, SYNONYM
from captioner.metrics.meteor.captions import Captions, Lexicon
from captioner.metrics.meteor.relations import (
    EXACT_BIT,
    STEM_BIT,
    SYNONYM_BIT,
    phrase_relation,
    word_relation,
)
from captioner.metrics.ngrams import Integers
from captioner.metrics.ragged import ranges, starts_of

_BACKWARD, _FORWARD = 3, 4  # paraphrases, by phrases of the reference and by phrases of the hypothesis


class Candidates(NamedTuple):
    """M candidate matches of P pairs, sorted by pair, then by start, then in METEOR's order.

    pair: (M,). The others are as in `alignment.Match`. is_certain: no other candidate touches one of its words.
    """

    pair: Integers
    start: Integers
    length: Integers
    hypothesis_start: Integers
    hypothesis_length: Integers
    module: Integers
    is_certain: NDArray[np.bool_]


def find_candidates(captions: Captions, hypotheses: Integers, references: Integers, lexicon: Lexicon) -> Candidates:
    """All candidates: equal words, equal stems, synonyms, then paraphrases.

    hypotheses, references: (P,) captions. A paraphrase that the table has in both directions is found twice, and so is
    never certain.
    """
    parts = [
        *_word_matches(captions, hypotheses, references, lexicon),
        *_phrase_matches(captions, hypotheses, references, lexicon),
    ]
    pair, start, length, hypothesis_start, hypothesis_length, group, order = map(
        np.concatenate, zip(*parts, strict=True)
    )
    longest = int(captions.lengths.max(initial=1))
    sorted_rows = np.lexsort((order, (pair * longest + start) * (_FORWARD + 1) + group))
    pair, start, length, hypothesis_start, hypothesis_length, group = (
        column[sorted_rows] for column in (pair, start, length, hypothesis_start, hypothesis_length, group)
    )
    in_reference = _touches(starts_of(captions.lengths[references])[pair] + start, length)
    in_hypothesis = _touches(starts_of(captions.lengths[hypotheses])[pair] + hypothesis_start, hypothesis_length)
    module = np.minimum(group, PARAPHRASE)
    is_certain = (in_reference == length) & (in_hypothesis == hypothesis_length)
    return Candidates(pair, start, length, hypothesis_start, hypothesis_length, module, is_certain)


def _touches(starts: Integers, lengths: Integers) -> Integers:
    """For each range of words: how often ranges touch its words, itself included."""
    touches = np.bincount(ranges(starts, lengths))
    sums = starts_of(touches)
    found: Integers = sums[starts + lengths] - sums[starts]
    return found


_Rows = tuple[Integers, ...]  # pair, start, length, hypothesis's start and length, group, order in the group


def _word_matches(captions: Captions, hypotheses: Integers, references: Integers, lexicon: Lexicon) -> list[_Rows]:
    types, words = np.unique(captions.words, return_inverse=True)
    relation = word_relation(types, lexicon)
    row = _every_pair(captions.word_starts, hypotheses, references)
    rows, ways = relation.find(words[row.reference], words[row.hypothesis])
    pair = row.pair(rows)
    start = row.reference[rows] - captions.word_starts[references[pair]]
    hypothesis_start = row.hypothesis[rows] - captions.word_starts[hypotheses[pair]]
    one = np.ones(len(rows), np.int64)
    return [
        tuple(
            column[some]
            for column in (pair, start, one, hypothesis_start, one, np.full(len(rows), module), hypothesis_start)
        )
        for module, bit in ((EXACT, EXACT_BIT), (STEM, STEM_BIT), (SYNONYM, SYNONYM_BIT))
        for some in (np.flatnonzero(ways & bit),)
    ]


def _phrase_matches(captions: Captions, hypotheses: Integers, references: Integers, lexicon: Lexicon) -> list[_Rows]:
    places, phrases = np.unique(captions.phrase_place, return_inverse=True)
    relation = phrase_relation(places, lexicon.paraphrases)
    row = _every_pair(captions.phrase_starts, hypotheses, references)
    in_reference, in_hypothesis = phrases[row.reference], phrases[row.hypothesis]
    found: list[_Rows] = []
    for group, (first, second) in (
        (_BACKWARD, (in_reference, in_hypothesis)),
        (_FORWARD, (in_hypothesis, in_reference)),
    ):
        rows, ranks = relation.find(first, second)
        start, length = captions.phrase_start[row.reference[rows]], captions.phrase_length[row.reference[rows]]
        of_hypothesis = row.hypothesis[rows]
        other_start, other_length = captions.phrase_start[of_hypothesis], captions.phrase_length[of_hypothesis]
        by = (length, ranks, other_start, other_length)
        if group == _FORWARD:
            by = (other_start, other_length, ranks, length)
        order = by[0]
        for key in by[1:]:
            order = order * (int(key.max(initial=0)) + 1) + key
        group_of = np.full(len(rows), group)
        found.append((row.pair(rows), start, length, other_start, other_length, group_of, order))
    return found


class _EveryPair(NamedTuple):
    """Each item of each reference beside each of its hypothesis: indices of both, and where each pair's rows end."""

    reference: Integers
    hypothesis: Integers
    ends: Integers

    def pair(self, rows: Integers) -> Integers:
        """The pair of captions to which rows belong."""
        found: Integers = np.searchsorted(self.ends, rows, side="right")
        return found


def _every_pair(starts: Integers, hypotheses: Integers, references: Integers) -> _EveryPair:
    """starts: (C + 1,) where the items of each caption begin."""
    counts = np.diff(starts)
    in_reference, in_hypothesis = counts[references], counts[hypotheses]
    items = ranges(starts[references], in_reference)
    repeats = np.repeat(in_hypothesis, in_reference)
    beside = ranges(np.repeat(starts[hypotheses], in_reference), repeats)
    return _EveryPair(np.repeat(items, repeats), beside, np.cumsum(in_reference * in_hypothesis))
