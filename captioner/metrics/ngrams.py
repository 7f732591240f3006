"""Captions as integers, and their n-grams counted once for BLEU, ROUGE-L and CIDEr.

The official scorers build a dictionary of word tuples for every caption. Here all captions of all
images are in one array, and one sort per n brings the occurrences of an n-gram together: sorted by
n-gram, then by image, then the hypothesis before the references. All counts that the three metrics
need are then differences of neighbors. Cost: n sorts of as many integers as there are words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Indices = NDArray[np.int32]  # for arrays with one entry per word: half the memory, fewer cache misses
Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]
Token = TypeVar("Token", str, int)

LONGEST = 4
"""BLEU and CIDEr count n-grams of 1 to 4 words."""


@dataclass(frozen=True)
class CaptionTable:
    """The captions of I images: for each image its hypothesis, then its references, C captions in all.

    tokens: (P,) all words of all captions, one caption after the other. Ids follow the words' sort
        order, so that no sum depends on the order of the images.
    caption: (P,) the caption of each word.
    lengths, starts: (C,) words in each caption, and where it begins in `tokens`.
    image: (C,) the image of each caption.
    hypothesis: (I,) the caption that is each image's hypothesis.
    reference: (C - I,) the captions that are references.
    vocabulary_size: number of different words.
    """

    tokens: Indices
    caption: Indices
    lengths: Integers
    starts: Integers
    image: Indices
    hypothesis: Integers
    reference: Integers
    vocabulary_size: int

    @property
    def images(self) -> int:
        """I, the number of images."""
        return len(self.hypothesis)

    @property
    def captions(self) -> int:
        """C, the number of captions."""
        return len(self.lengths)

    @property
    def reference_starts(self) -> Integers:
        """(I,) where each image's references begin in `reference`: the segments for `reduceat`."""
        return self.hypothesis - np.arange(self.images)

    @property
    def references_per_image(self) -> Integers:
        """(I,) the number of references of each image."""
        return np.diff(self.reference_starts, append=len(self.reference))


def encode(hypotheses: Sequence[Sequence[Token]], references: Sequence[Sequence[Sequence[Token]]]) -> CaptionTable:
    """Encode captions, given as words or as token ids, as a table of integers.

    hypotheses: (I,) one caption per image; references: (I,) one or more captions per image.
    """
    captions: list[Sequence[Token]] = []
    for hypothesis, of_image in zip(hypotheses, references, strict=True):
        captions.append(hypothesis)
        captions.extend(of_image)
    words = list(chain.from_iterable(captions))
    vocabulary = {word: index for index, word in enumerate(sorted(set(words)))}
    lengths = np.fromiter(map(len, captions), np.int64, len(captions))
    per_image = 1 + np.fromiter(map(len, references), np.int64, len(references))
    hypothesis_rows = np.cumsum(per_image) - per_image
    is_reference = np.ones(len(captions), np.bool_)
    is_reference[hypothesis_rows] = False
    return CaptionTable(
        tokens=np.fromiter(map(vocabulary.__getitem__, words), np.int32, len(words)),
        caption=np.repeat(np.arange(len(captions), dtype=np.int32), lengths),
        lengths=lengths,
        starts=np.cumsum(lengths) - lengths,
        image=np.repeat(np.arange(len(per_image), dtype=np.int32), per_image),
        hypothesis=hypothesis_rows,
        reference=np.flatnonzero(is_reference),
        vocabulary_size=len(vocabulary),
    )


@dataclass(frozen=True)
class NgramCounts:
    """How often each n-gram of one length occurs in each caption: E entries, one per pair (n-gram, caption).

    Entries are sorted by n-gram, then image, then caption.

    gram, caption, count: (E,) the n-gram, the caption, and the count of the n-gram in the caption.
    document_frequency: (G,) for each n-gram, the number of images with a reference that contains it.
    shared_reference, shared_hypothesis: (M,) pairs of entries: an n-gram in a reference, and the same
        n-gram in the hypothesis of the same image.
    position, start: (O,) where in `tokens` the occurrences begin, sorted by entry, and (E,) the index
        of each entry's first occurrence.
    """

    gram: Indices
    caption: Indices
    count: Indices
    document_frequency: Integers
    shared_reference: Indices
    shared_hypothesis: Indices
    position: Indices
    start: Indices


def count_ngrams(table: CaptionTable, longest: int = LONGEST) -> list[NgramCounts]:
    """Count the n-grams of all captions, for n = 1 … `longest`."""
    words_left = (table.starts + table.lengths)[table.caption] - np.arange(len(table.tokens))
    position = np.arange(len(table.tokens))
    gram_at = table.tokens  # the n-gram that begins at each position; undefined where none does
    gram_count = table.vocabulary_size
    counts = []
    for n in range(1, longest + 1):
        if n == 1:
            keys = table.tokens.astype(np.int64)
        else:
            position = position[words_left[position] >= n]
            # An n-gram is the (n-1)-gram at the same position and one more word.
            keys = gram_at[position].astype(np.int64) * table.vocabulary_size + table.tokens[position + n - 1]
            gram_count *= table.vocabulary_size
        sorted_keys, sorted_position = _sort_with(keys, position, gram_count)
        is_new = _changes(sorted_keys)
        gram = _number(is_new)
        gram_at = np.zeros_like(table.tokens)
        gram_at[sorted_position] = gram
        gram_count = int(gram[-1]) + 1 if len(gram) else 0
        counts.append(_count_sorted(table, gram, is_new, sorted_position, gram_count))
    return counts


def _count_sorted(
    table: CaptionTable, gram: Indices, is_new: Flags, position: Integers, gram_count: int
) -> NgramCounts:
    """Make entries of occurrences that are sorted by n-gram, then by position (and so by image and caption)."""
    caption = table.caption[position]
    start = _where(is_new | _changes(caption))
    gram, caption = gram[start], caption[start]
    is_hypothesis = np.zeros(table.captions, np.bool_)
    is_hypothesis[table.hypothesis] = True
    entry_is_hypothesis = is_hypothesis[caption]

    # A run: the entries of one n-gram in one image. If the hypothesis has the n-gram, its entry is the run's first.
    run_begins = is_new[start] | _changes(table.image[caption])
    run = _number(run_begins)
    run_first = _where(run_begins)
    run_has_hypothesis = entry_is_hypothesis[run_first]
    run_has_reference = np.diff(run_first, append=len(gram)) > run_has_hypothesis
    shared_reference = _where(run_has_hypothesis[run] & ~entry_is_hypothesis)
    return NgramCounts(
        gram=gram,
        caption=caption,
        count=np.diff(start, append=np.int32(len(position))),
        document_frequency=np.bincount(gram[run_first[run_has_reference]], minlength=gram_count),
        shared_reference=shared_reference,
        shared_hypothesis=run_first[run[shared_reference]],
        position=position.astype(np.int32),
        start=start,
    )


def _sort_with(keys: Integers, position: Integers, key_limit: int) -> tuple[Integers, Integers]:
    """Sort both arrays by key, then by position. `position` is ascending; keys are below `key_limit`."""
    bits = int(position[-1]).bit_length() if len(position) else 0
    if key_limit.bit_length() + bits < 64:
        # One integer holds both: sorting values is several times faster than sorting indices.
        both = np.sort((keys << bits) | position)
        return both >> bits, both & ((1 << bits) - 1)
    order = np.argsort(keys, kind="stable")
    return keys[order], position[order]


def _number(is_new: Flags) -> Indices:
    """Number runs that begin at each True: 0 up to the second True, 1 up to the third …; the first flag is True."""
    numbers: Indices = np.cumsum(is_new, dtype=np.int32) - np.int32(1)
    return numbers


def _where(flags: Flags) -> Indices:
    """The indices of the True flags."""
    return np.flatnonzero(flags).astype(np.int32)


def _changes(values: Integers | Indices) -> Flags:
    """True at the first value and where a value differs from the previous one."""
    changes = np.ones(len(values), np.bool_)
    np.not_equal(values[1:], values[:-1], out=changes[1:])
    return changes
