"""Phrase statistics: which phrases would have been seen in a corpus of captions if people wrote them.

"the ball" and "in the" are frequent in captions of Flickr8k, so "in the ball" should be frequent too; it never occurs.
A model that is trained on a score writes it all the same. Three kinds of phrases are implausible:

- unseen: an n-gram w_1 … w_n that is expected to be frequent, and hardly ever occurs. From its overlapping parts

      E(w_1 … w_n) = c(w_1 … w_n−1) c(w_2 … w_n) / c(w_2 … w_n−1)

  (c: occurrences; the divisor is the number of all tokens for n = 2) are expected if the last word depends only on the
  words between. The n-gram is unseen if (c(w_1 … w_n) + ½) / E ≤ 0.005, 0.08, 0.1 for n = 2, 3, 4. <END> is a word
  here, <START> is not. Bigrams count only where the first word is one that captions do not end in ("a", "in", "and").
- doubled: a phrase of up to six words twice, with nothing between ("in the water in the water"), or from two words on
  with one word between ("a man and a man"), unless the corpus has exactly that. A phrase that ends in a word which
  captions do not end in, such as "in a", may be repeated after one word.
- ending: a caption without words, or one whose last word, or last two words, <END> follows in at most 1 of 500 cases.

The four limits were chosen by cross-validation on human captions (docs/fluency.md, which also shows what the definition
misses). Tokens are integers from 0 on, so that one definition serves the metric (numbered words), the searches and the
reward (token ids).
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from captioner.errors import DataError

Phrase = tuple[int, ...]
Integers = NDArray[np.int64]
Table = NDArray[np.int32]

LONGEST = 4
SMOOTHING = 0.5
LARGEST_RATIO = {2: 0.005, 3: 0.08, 4: 0.1}
"""n → the largest (count + SMOOTHING) / expected count of an unseen n-gram."""
RAREST_ENDING = 0.002
LONGEST_DOUBLED = 6  # words
PARTS = 4  # in which n-grams are counted, for less memory

UNSEEN, DOUBLED, ENDING = KINDS = ("unseen", "doubled", "ending")
_BITS = np.uint64(16)  # of a word's number while n-grams are counted
_PACKED = {1: np.uint16, 2: np.uint32, 3: np.uint64, 4: np.uint64}  # n → the smallest integers, sorted the fastest


class ImplausiblePhrase(NamedTuple):
    """A phrase of a caption that people would not write: its kind, one of KINDS, and its words (<END> included)."""

    kind: str
    words: Phrase


class _Ngrams(NamedTuple):
    """The n-grams of one length, each packed into one integer (16 bits a word), ascending, and their counts."""

    n: int
    packed: NDArray[np.uint64]
    counts: NDArray[np.int32]

    @property
    def words(self) -> NDArray[np.uint64]:
        """(G, n): the numbers of the words of each n-gram."""
        columns = [(self.packed >> (_BITS * np.uint64(self.n - 1 - i))) & _all_ones(1) for i in range(self.n)]
        return np.stack(columns, axis=1)

    def counts_of(self, packed: NDArray[np.uint64]) -> NDArray[np.int32]:
        """The counts of n-grams that are in the table."""
        return self.counts[np.searchsorted(self.packed, packed)]


@dataclass(frozen=True, eq=False)
class PhraseStatistics:
    """What decides whether a phrase is implausible, of a corpus of captions.

    end: the token <END>. captions, tokens: how many the corpus has, <END> counted. tables: for n = 1 … 4 the n-grams on
    which a decision can depend, one in a row, and in the last column their occurrences. doubled: the doubled phrases
    that the corpus has.
    """

    end: int
    captions: int
    tokens: int
    tables: tuple[Table, ...]
    doubled: frozenset[Phrase]
    _unseen_after: dict[Phrase, frozenset[int]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_captions(cls, captions: Iterable[Sequence[int]], end: int) -> PhraseStatistics:
        """Count the phrases of `captions`, which are tokens without <END>. DataError if there are none."""
        flat, ends = array("i"), array("q")
        for caption in captions:
            flat.extend(caption)
            flat.append(end)
            ends.append(len(flat))
        return cls._count(np.frombuffer(flat, np.int32), np.frombuffer(ends, np.int64), end)

    @classmethod
    def from_flat(cls, tokens: NDArray[np.int32], offsets: Integers, end: int) -> PhraseStatistics:
        """`from_captions` for captions in one array: caption i is `tokens[offsets[i] : offsets[i + 1]]`."""
        return cls._count(np.insert(tokens, offsets[1:], end), offsets[1:] + np.arange(1, len(offsets)), end)

    @classmethod
    def _count(cls, flat: NDArray[np.int32], ends: Integers, end: int) -> PhraseStatistics:
        """The statistics of captions that end in `end`, one after the other; ends: where each of them ends."""
        if not len(ends):
            raise DataError("Phrase statistics need at least one caption.")
        occurrences = np.bincount(flat)
        words = np.flatnonzero(occurrences)
        # Only n-grams of frequent words matter; the others get the number 0, and no n-gram has it.
        most_frequent = words[np.argsort(-occurrences[words], kind="stable")][: (1 << 16) - 1]
        rank = np.zeros(len(occurrences), np.uint16)
        rank[most_frequent] = np.arange(1, len(most_frequent) + 1)
        ranked = np.append(0, most_frequent)  # number → word
        lengths = np.diff(ends, prepend=0)
        words_left = np.full(len(flat), LONGEST, np.uint8)
        for left in range(LONGEST - 1, 0, -1):
            words_left[ends[lengths >= left] - left] = left
        tables = tuple(
            np.column_stack([ranked[table.words], table.counts]).astype(np.int32)
            for table in _deciding_ngrams(rank[flat], words_left, int(rank[end]))
        )
        of_endings = tables[0], tables[1][tables[1][:, 1] == end]  # all that `_doubles` looks up
        found = cls(end, len(ends), len(flat), of_endings, frozenset())
        doubled: set[Phrase] = set()
        for start, position in _doubled_candidates(flat, lengths).tolist():
            before = tuple(flat[max(start, position - 2 * LONGEST_DOUBLED) : position].tolist())
            doubled.update(found._doubles(before, int(flat[position])))
        return cls(end, len(ends), len(flat), tables, frozenset(doubled))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PhraseStatistics):
            return NotImplemented
        plain = self.end, self.captions, self.tokens, self.doubled
        return plain == (other.end, other.captions, other.tokens, other.doubled) and self.counts == other.counts

    @cached_property
    def counts(self) -> Mapping[Phrase, int]:
        """n-gram → occurrences, of all tables. Made when the first is looked up: for COCO it takes 70 MB."""
        return {tuple(gram): count for table in self.tables for *gram, count in table.tolist()}

    def find(self, caption: Sequence[int]) -> list[ImplausiblePhrase]:
        """The implausible phrases of a caption, whose tokens come without <END>, in the order in which they end."""
        found = []
        for position, word in enumerate((*caption, self.end)):
            before = tuple(caption[:position])
            for kind in KINDS:
                found += [ImplausiblePhrase(kind, phrase) for phrase in self._completed(kind, before, word)]
        return found

    def forbidden(self, tokens: Sequence[int], kinds: Collection[str] = KINDS) -> set[int]:
        """The tokens that would complete an implausible phrase of these `kinds` after `tokens`."""
        forbidden: set[int] = set()
        before = tuple(tokens)
        if UNSEEN in kinds:
            for n in LARGEST_RATIO:
                if len(before) >= n - 1:
                    forbidden |= self._unseen_after_context(before[len(before) - n + 1 :])
        if DOUBLED in kinds:
            candidates = {before[len(before) - distance] for distance in self._distances(before)}
            forbidden |= {word for word in candidates if self._doubles(before, word)}
        if ENDING in kinds and self._is_bad_ending(before):
            forbidden.add(self.end)
        return forbidden

    def _completed(self, kind: str, before: Phrase, word: int) -> Iterator[Phrase]:
        """The implausible phrases of one kind that `word` completes."""
        if kind == UNSEEN:
            for n in LARGEST_RATIO:
                if len(before) >= n - 1 and self._is_unseen((*before[len(before) - n + 1 :], word)):
                    yield (*before[len(before) - n + 1 :], word)
        elif kind == DOUBLED and word != self.end:
            yield from self._doubles(before, word)
        elif kind == ENDING and word == self.end and self._is_bad_ending(before):
            yield (*before[-2:], word)

    # Unseen phrases

    def expected(self, gram: Phrase) -> float:
        """E of an n-gram: the occurrences that its overlapping parts let expect; 0 where these are too rare."""
        middle = self.counts.get(gram[1:-1], 0) if len(gram) > 2 else self.tokens
        return self.counts.get(gram[:-1], 0) * self.counts.get(gram[1:], 0) / middle if middle else 0.0

    def _is_unseen(self, gram: Phrase) -> bool:
        if len(gram) == 2 and not self._hardly_ends(gram[:1]):
            return False
        return _is_rare(self.counts.get(gram, 0), self.expected(gram), len(gram))

    def _unseen_after_context(self, context: Phrase) -> frozenset[int]:
        """The tokens that complete an unseen (n + 1)-gram after the n tokens of `context`."""
        if context not in self._unseen_after:
            followers = self._followers.get(context[1:], ())
            self._unseen_after[context] = frozenset(word for word in followers if self._is_unseen((*context, word)))
        return self._unseen_after[context]

    @cached_property
    def _followers(self) -> dict[Phrase, list[int]]:
        """Phrase → the tokens that follow it in an n-gram of `counts`."""
        followers: dict[Phrase, list[int]] = defaultdict(list)
        for gram in self.counts:
            followers[gram[:-1]].append(gram[-1])
        return dict(followers)

    # Endings

    def _hardly_ends(self, words: Phrase) -> bool:
        """Whether <END> follows `words` in at most RAREST_ENDING of the cases, beyond doubt."""
        endings = self.counts.get((*words, self.end), 0)
        return endings + SMOOTHING <= RAREST_ENDING * self.counts.get(words, 0)

    def _is_bad_ending(self, caption: Phrase) -> bool:
        return not caption or self._hardly_ends(caption[-1:]) or (len(caption) > 1 and self._hardly_ends(caption[-2:]))

    # Doubled phrases

    @staticmethod
    def _distances(before: Phrase) -> range:
        """How many tokens back the first occurrence of a doubled phrase's last word can be."""
        return range(1, min(len(before), LONGEST_DOUBLED + 1) + 1)

    def _doubles(self, before: Phrase, word: int) -> list[Phrase]:
        """The doubled phrases that `word` completes after `before` and that the corpus does not have."""
        caption = (*before, word)
        found = []
        for gap in (0, 1):
            for length in range(1 + gap, min(LONGEST_DOUBLED, (len(caption) - gap) // 2) + 1):
                second, first = caption[-length:], caption[-2 * length - gap : len(caption) - length - gap]
                whole = caption[-2 * length - gap :]
                if first == second and whole not in self.doubled and not (gap and self._hardly_ends((word,))):
                    found.append(whole)
        return found

    # Storage

    def to_arrays(self) -> dict[str, NDArray[np.int32]]:
        """Plain arrays, in a fixed order, from which `from_arrays` makes equal statistics."""
        arrays = {"numbers": np.array([self.end, self.captions, self.tokens], np.int32)}
        for n, table in enumerate(self.tables, start=1):
            arrays[f"counts_{n}"] = table[np.lexsort(table.T[::-1])]
        doubled = sorted(self.doubled)
        arrays["doubled"] = np.array(list(chain.from_iterable(doubled)), np.int32)
        arrays["doubled_lengths"] = np.array(list(map(len, doubled)), np.int32)
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.int32]]) -> PhraseStatistics:
        """The inverse of `to_arrays`. KeyError or ValueError for arrays of another form."""
        end, captions, tokens = arrays["numbers"].tolist()
        tables = tuple(arrays[f"counts_{n}"].reshape(-1, n + 1) for n in range(1, LONGEST + 1))
        ends = np.cumsum(arrays["doubled_lengths"]).tolist()
        words = arrays["doubled"].tolist()
        doubled = (tuple(words[first:last]) for first, last in zip([0, *ends], ends, strict=False))
        return cls(end, captions, tokens, tables, frozenset(doubled))


def _is_rare(count: int, expected: float, n: int) -> bool:
    return expected > 0 and count + SMOOTHING <= LARGEST_RATIO[n] * expected


def _doubled_candidates(flat: NDArray[np.int32], lengths: Integers) -> Integers:
    """(n, 2): where the caption begins, and the word, of each word that ends the same words twice, as `_doubles` says.

    flat: the words of all captions, each with its end; lengths: of the captions.
    """
    ends = np.cumsum(lengths)
    starts = np.repeat((ends - lengths).astype(np.int32), lengths)
    found = [np.zeros(0, np.int64)]
    for gap in (0, 1):
        for length in range(1 + gap, LONGEST_DOUBLED + 1):
            distance = length + gap
            equal = np.flatnonzero((flat[distance:] == flat[:-distance]) & (starts[distance:] == starts[:-distance]))
            last = equal[length - 1 :]  # of `length` equal words in a row
            found.append(last[last - equal[: len(last)] == length - 1] + distance)
    positions = np.unique(np.concatenate(found))
    positions = positions[ends[np.searchsorted(ends, positions, side="right")] - 1 != positions]  # not of an <END>
    return np.stack([starts[positions], positions], axis=1)


def _deciding_ngrams(numbers: NDArray[np.uint16], words_left: NDArray[np.uint8], end: int) -> Iterator[_Ngrams]:
    """The n-grams on which a decision can depend, for n = 1 … 4; none has a word of number 0.

    numbers: of the words of all captions; words_left: from each word to the end of its caption, itself included, where
    LONGEST stands for more. Each table is made in parts, because COCO has seven million words.
    """
    position = np.flatnonzero(numbers).astype(np.int32)
    shorter: list[_Ngrams] = []
    for n in range(1, LONGEST + 1):
        position = position[words_left[position] >= n]
        position = position[numbers[position + (n - 1)] > 0]
        parts, deciding = [], []
        for part in _counted(numbers, position, n):
            kept = _decides(part, shorter, len(numbers), end)
            deciding.append(_Ngrams(n, part.packed[kept], part.counts[kept]))
            if n < LONGEST:
                parts.append(part)
        yield _joined(n, deciding)
        shorter = [*shorter[-1:], _joined(n, parts)]


def _counted(numbers: NDArray[np.uint16], position: NDArray[np.int32], n: int) -> Iterator[_Ngrams]:
    """The n-grams at these positions, in parts: each has the n-grams of some first words, in ascending order."""
    first = numbers[position]
    until = np.cumsum(np.bincount(first))
    edges = np.searchsorted(until, np.arange(1, PARTS) * len(first) / PARTS)
    for low, high in pairwise([0, *np.unique(edges).tolist(), len(until)]):
        of_part = position[(first > low) & (first <= high)]
        packed = numbers[of_part].astype(_PACKED[n])
        for following in range(1, n):
            packed <<= packed.dtype.type(_BITS)
            packed |= numbers[of_part + following]
        packed.sort()
        starts = np.flatnonzero(np.append(True, packed[1:] != packed[:-1])) if len(packed) else np.zeros(0, np.int64)
        yield _Ngrams(n, packed[starts].astype(np.uint64), np.diff(starts, append=len(packed)).astype(np.int32))


def _joined(n: int, parts: Sequence[_Ngrams]) -> _Ngrams:
    return _Ngrams(
        n,
        np.concatenate([np.zeros(0, np.uint64), *(part.packed for part in parts)]),
        np.concatenate([np.zeros(0, np.int32), *(part.counts for part in parts)]),
    )


def _decides(table: _Ngrams, shorter: Sequence[_Ngrams], tokens: int, end: int) -> NDArray[np.bool_]:
    """Which n-grams of the table a decision can depend on. shorter: the tables of one word and of two words less.

    An expected count is at most that of either part, so an n-gram of a part that is rarer than SMOOTHING /
    LARGEST_RATIO is never unseen, and one with so low an expected count need not be looked up.
    """
    lowest = {n: SMOOTHING / ratio for n, ratio in LARGEST_RATIO.items()}
    n, packed = table.n, table.packed
    if n == 1:
        return np.ones(len(packed), np.bool_)
    left = shorter[-1].counts_of(packed >> _BITS)
    right = shorter[-1].counts_of(packed & _all_ones(n - 1))
    middle = shorter[-2].counts_of((packed >> _BITS) & _all_ones(n - 2)) if n > 2 else tokens
    decides: NDArray[np.bool_] = left * right.astype(np.int64) / middle >= lowest[n]
    if n < LONGEST:
        decides |= table.counts >= lowest[n + 1]  # a part of longer ones
        decides |= (packed & _all_ones(1) == end) & (left >= SMOOTHING / RAREST_ENDING)
    if n < LONGEST - 1:
        decides |= table.counts >= lowest[n + 2]  # what two parts share
    return decides


def _all_ones(words: int) -> np.uint64:
    """The bits of the last `words` words of a packed n-gram."""
    ones: np.uint64 = np.uint64((1 << 16 * words) - 1)
    return ones
