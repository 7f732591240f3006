"""Hashes the phrases in the text of METEOR's table of paraphrases by operations on all bytes of a block.

A loop in Python over its 28 million words would take most of the time. Let s_j be the sum of b_i m^i over the bytes b_i
up to byte j, modulo 2^64. Then (s_end − s_start) / m^start is the same number wherever a word stands: its key, by
which its hash is looked up. m is odd, so it has an inverse. The hashes of words add up to those of phrases likewise.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from captioner.metrics.meteor.paraphrases import MULTIPLIER, Hashes, hash_words
from captioner.metrics.ngrams import Integers

LINES = 3  # of a pair: a probability, a phrase, a paraphrase of it
_SPACE, _NEWLINE = b" \n"
_INVERSE = np.uint64(pow(int(MULTIPLIER), -1, 1 << 64))
_SLOT_BITS = 19  # of the keys' table


class PairHashes(NamedTuple):
    """The hashes of a block of N pairs.

    begins_run: (N,) whether a pair's phrase differs from that of the pair before it, in this block or the one before.
    runs: the hashes of these phrases. paraphrases: (N,) the hash of each paraphrase.
    """

    begins_run: NDArray[np.bool_]
    runs: Hashes
    paraphrases: Hashes


class PairHasher:
    """Hashes blocks of pairs, one after the other."""

    def __init__(self) -> None:
        self._words = _WordHashes()
        self._last = np.uint64(0)  # the key of the last phrase

    def hash_pairs(self, text: bytes) -> PairHashes:
        """The hashes of a text of whole pairs. ValueError if it is not UTF-8."""
        text.decode()
        characters = np.frombuffer(text, np.uint8)
        ends = np.flatnonzero((characters == _SPACE) | (characters == _NEWLINE))  # of words: the byte after each
        lines = np.flatnonzero(characters[ends] == _NEWLINE)  # the last word of each
        prefix_sums = _prefix_sums(characters)
        phrases = _between(prefix_sums, ends[lines[:-2:LINES]], ends[lines[1::LINES]])
        begins_run = phrases != np.append(self._last, phrases[:-1])
        self._last = phrases[-1]

        wanted = np.ones((len(phrases), LINES), np.bool_)
        wanted[:, 0] = False
        wanted[:, 1] = begins_run
        counts = np.diff(lines, prepend=-1)[wanted.ravel()]  # words of each phrase
        words = np.flatnonzero(np.repeat(wanted.ravel(), np.diff(lines, prepend=-1)))  # never the first of the text
        keys = _between(prefix_sums, ends[words - 1], ends[words])
        hashes = self._words.hashes(keys, text, ends[words - 1] + 1, ends[words])
        of_phrases = _hash_phrases(hashes, np.cumsum(counts) - 1)
        is_phrase = np.flatnonzero(wanted[:, 1:].ravel())
        return PairHashes(begins_run, of_phrases[is_phrase % 2 == 0], of_phrases[is_phrase % 2 == 1])


class _WordHashes:
    """Finds the hashes of words by their keys: in a table with one word for each value of some bits, or the others."""

    def __init__(self) -> None:
        self._keys = np.zeros(1 << _SLOT_BITS, np.uint64)  # no key is 0
        self._hashes = np.zeros(1 << _SLOT_BITS, np.uint64)
        self._others: dict[int, int] = {}

    def hashes(self, keys: Hashes, text: bytes, starts: Integers, ends: Integers) -> Hashes:
        """The hash of each word. starts, ends: where it stands in `text`."""
        slots = (keys * MULTIPLIER) >> np.uint64(64 - _SLOT_BITS)
        hashes: Hashes = self._hashes[slots]
        missing = np.flatnonzero(self._keys[slots] != keys)
        if len(missing):
            different, first, positions = np.unique(keys[missing], return_index=True, return_inverse=True)
            new = [number for number, key in enumerate(different.tolist()) if key not in self._others]
            spelled = [text[starts[word] : ends[word]].decode() for word in missing[first[new]].tolist()]
            self._others |= zip(different[new].tolist(), hash_words(spelled).tolist(), strict=True)
            found = np.array([self._others[key] for key in different.tolist()], np.uint64)
            hashes[missing] = found[positions]
            free = missing[first][self._keys[slots[missing[first]]] == 0]
            self._keys[slots[free]], self._hashes[slots[free]] = keys[free], hashes[free]
        return hashes


def _prefix_sums(values: NDArray[np.uint8] | Hashes) -> Hashes:
    """s_j = Σ_{i ≤ j} v_i m^i, modulo 2^64."""
    return np.cumsum(values * _powers(int(MULTIPLIER), len(values).bit_length())[: len(values)])


def _between(prefix_sums: Hashes, before: Integers, ends: Integers) -> Hashes:
    """Σ v_i m^(i − before) over before < i ≤ end."""
    inverses = _powers(int(_INVERSE), len(prefix_sums).bit_length())
    return (prefix_sums[ends] - prefix_sums[before]) * inverses[before]


def _hash_phrases(hashes: Hashes, last: Integers) -> Hashes:
    """h(w_1 … w_n) = Σ m^(n − i) h(w_i) of phrases, one after the other. last: the last word of each."""
    powers = _powers(int(MULTIPLIER), len(hashes).bit_length())
    inverses = _powers(int(_INVERSE), len(hashes).bit_length())
    return np.diff(np.cumsum(hashes * inverses[: len(hashes)])[last], prepend=np.uint64(0)) * powers[last]


@lru_cache(maxsize=8)
def _powers(base: int, bits: int) -> Hashes:
    """base^i modulo 2^64, for i from 0 to 2^bits − 1."""
    factors = np.full(1 << bits, base, np.uint64)
    factors[0] = 1
    return np.cumprod(factors)
