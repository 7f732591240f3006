"""Which words and phrases match each other: relations between the numbers that occur in some captions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from captioner.metrics.meteor.captions import Lexicon
from captioner.metrics.meteor.paraphrases import Paraphrases
from captioner.metrics.ngrams import Integers
from captioner.metrics.ragged import ranges, starts_of

EXACT_BIT, STEM_BIT, SYNONYM_BIT = 1, 2, 4
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_SMALLEST = 12  # bits of the filter
_PER_PAIR = 16  # entries of the filter


class Relation:
    """Values of pairs (first, second) of numbers below `size`; most pairs that are asked for have none.

    Those are found by a table of flags, in which a hash of the pair tells where to look; the others by bisection.
    """

    def __init__(self, first: Integers, second: Integers, values: Integers, size: int) -> None:
        keys = first * size + second
        order = np.argsort(keys, kind="stable")
        self._size = size
        self._keys, self._values = keys[order], values[order]
        bits = max(_SMALLEST, (_PER_PAIR * len(keys)).bit_length())
        self._shift = np.uint64(64 - bits)
        self._flags = np.zeros(1 << bits, np.bool_)
        self._flags[self._hash(keys)] = True

    def find(self, first: Integers, second: Integers) -> tuple[Integers, Integers]:
        """Which of the pairs have a value, ascending, and the values of those. Of several values the last."""
        keys = first * self._size + second
        some = np.flatnonzero(self._flags[self._hash(keys)])
        keys = keys[some]
        place = np.searchsorted(self._keys, keys, side="right") - 1
        known = self._keys[place] == keys if len(self._keys) else np.zeros(len(keys), np.bool_)
        return some[known], self._values[place[known]]

    def _hash(self, keys: Integers) -> NDArray[np.uint64]:
        hashes: NDArray[np.uint64] = keys.view(np.uint64) * _MULTIPLIER >> self._shift
        return hashes


def word_relation(words: Integers, lexicon: Lexicon) -> Relation:
    """How two of the words match: by the sum of EXACT_BIT, STEM_BIT and SYNONYM_BIT. Equal words match in one way only.

    words: (W,) different numbers of `lexicon`; the relation is between their indices in `words`.
    """
    size = len(words)
    index = np.arange(size)
    starts, counts = lexicon.synset_starts[words], np.diff(lexicon.synset_starts)[words]
    stems = _pairs_of_groups(lexicon.stems[words], index)
    synonyms = _pairs_of_groups(lexicon.synsets[ranges(starts, counts)], np.repeat(index, counts))
    keys, bits = [], []
    for (first, second), bit in (((index, index), EXACT_BIT), (stems, STEM_BIT), (synonyms, SYNONYM_BIT)):
        keys.append(np.unique(first * size + second))
        bits.append(np.full(len(keys[-1]), bit))
    different, of_key = np.unique(np.concatenate(keys), return_inverse=True)
    sums = np.bincount(of_key, np.concatenate(bits)).astype(np.int64)
    first, second = np.divmod(different, size)
    return Relation(first, second, sums, size)


def _pairs_of_groups(groups: Integers, members: Integers) -> tuple[Integers, Integers]:
    """All pairs of different members of one group; a pair may occur several times."""
    order = np.argsort(groups, kind="stable")
    _, starts, sizes = np.unique(groups[order], return_index=True, return_counts=True)
    members = members[order]
    first = np.repeat(members, np.repeat(sizes, sizes))
    second = members[ranges(np.repeat(starts, sizes), np.repeat(sizes, sizes))]
    differ = first != second
    return first[differ], second[differ]


def phrase_relation(places: Integers, paraphrases: Paraphrases) -> Relation:
    """(phrase, a paraphrase of it) → the paraphrase's rank in the table.

    places: (Q,) different places in the table; the relation is between their indices in `places`.
    """
    index_of = np.full(len(paraphrases.phrases), -1, np.int32)
    index_of[places] = np.arange(len(places))
    starts = paraphrases.starts[places].astype(np.int64)
    counts = paraphrases.starts[places + 1].astype(np.int64) - starts
    second = index_of[paraphrases.paraphrases[ranges(starts, counts)]]
    known = np.flatnonzero(second >= 0)
    ends = starts_of(counts)
    first = np.searchsorted(ends, known, side="right") - 1
    return Relation(first, second[known].astype(np.int64), known - ends[first], len(places))
