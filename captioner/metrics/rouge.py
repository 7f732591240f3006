"""ROUGE-L as the COCO evaluation computes it.

With LCS the length of the longest common subsequence of words, over the references s of an image,

    P = max LCS(c, s) / |c|,   R = max LCS(c, s) / |s|,   ROUGE-L = (1 + b^2) P R / (R + b^2 P),  b = 1.2

(Lin 2004, section 3). P and R may come from two different references. An empty caption counts as one
empty word, since splitting it on spaces gives one: the score of two empty captions is 1.

The LCS of all pairs is computed at once, bit-parallel (Hyyrö 2004): bit i of an integer tells whether the
LCS grows at word i of the hypothesis; each word of a reference updates all bits with one addition.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from captioner.metrics.metric import Metric, MetricResult
from captioner.metrics.ngrams import CaptionTable, Floats, Integers, NgramCounts

BETA = 1.2
WORD_BITS = 64

Masks = NDArray[np.uint64]


def rouge_l(table: CaptionTable, unigrams: NgramCounts) -> Floats:
    """(I,): ROUGE-L of each image, 0 to 1. The corpus value is the mean."""
    hypothesis = table.hypothesis[table.image[table.reference]]
    hypothesis_length = table.lengths[hypothesis]
    reference_length = table.lengths[table.reference]
    lcs = _lcs(table, unigrams)
    for row in np.flatnonzero(hypothesis_length > WORD_BITS):
        lcs[row] = long_lcs(_words(table, hypothesis[row]), _words(table, table.reference[row]))
    lcs[(hypothesis_length == 0) & (reference_length == 0)] = 1
    precision = np.maximum.reduceat(lcs / np.maximum(hypothesis_length, 1), table.reference_starts)
    recall = np.maximum.reduceat(lcs / np.maximum(reference_length, 1), table.reference_starts)
    weighted = recall + BETA**2 * precision
    return np.divide((1 + BETA**2) * precision * recall, weighted, out=np.zeros_like(weighted), where=weighted > 0)


def long_lcs(first: list[int], second: list[int]) -> int:
    """The length of the longest common subsequence of two sequences of any length, by Python's unbounded integers."""
    occurrences: dict[int, int] = {}
    for index, word in enumerate(first):
        occurrences[word] = occurrences.get(word, 0) | 1 << index
    all_bits = (1 << len(first)) - 1
    state = all_bits
    for word in second:
        matching = occurrences.get(word, 0)
        state = ((state + (state & matching)) | (state & ~matching)) & all_bits
    return len(first) - state.bit_count()


def _words(table: CaptionTable, caption: int) -> list[int]:
    start = table.starts[caption]
    words: list[int] = table.tokens[start : start + table.lengths[caption]].tolist()
    return words


def _lcs(table: CaptionTable, unigrams: NgramCounts) -> Integers:
    """(C - I,): the LCS of each reference with its hypothesis; correct for hypotheses of up to 64 words."""
    masks = _occurrences_in_hypothesis(table, unigrams)
    # Words that the hypothesis does not contain change nothing: skip them.
    position = np.flatnonzero(masks)
    masks = masks[position]
    steps = np.bincount(table.caption[position], minlength=table.captions)
    first = np.cumsum(steps) - steps

    # Longest first, so that the pairs that still have words are always the first rows.
    order = np.argsort(-steps, kind="stable")
    still_running = len(order) - np.searchsorted(steps[order][::-1], np.arange(steps.max(initial=0)), side="right")
    state = np.full(table.captions, np.iinfo(np.uint64).max, np.uint64)
    for step, running in enumerate(still_running):
        matching = masks[first[order[:running]] + step]
        current = state[:running]
        state[:running] = (current + (current & matching)) | (current & ~matching)
    lcs = np.empty(table.captions, np.int64)
    lcs[order] = _count_bits(~state)
    return lcs[table.reference]


def _occurrences_in_hypothesis(table: CaptionTable, unigrams: NgramCounts) -> Masks:
    """(P,): for each word of a reference, where it occurs in the hypothesis: bit i for its i-th word."""
    index = (unigrams.position - table.starts[table.caption[unigrams.position]]) % WORD_BITS
    bit = np.left_shift(np.uint64(1), index.astype(np.uint64))
    in_entry = np.bitwise_or.reduceat(bit, unigrams.start) if len(bit) else bit
    entry_mask = np.zeros(len(unigrams.start), np.uint64)
    entry_mask[unigrams.shared_reference] = in_entry[unigrams.shared_hypothesis]
    masks = np.zeros(len(table.tokens), np.uint64)
    masks[unigrams.position] = np.repeat(entry_mask, unigrams.count)
    return masks


def _count_bits(values: Masks) -> Integers:
    """The number of ones in each integer: sums of neighboring pairs, nibbles, bytes."""
    values = values - ((values >> np.uint64(1)) & np.uint64(0x5555555555555555))
    values = (values & np.uint64(0x3333333333333333)) + ((values >> np.uint64(2)) & np.uint64(0x3333333333333333))
    values = (values + (values >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    ones: Integers = ((values * np.uint64(0x0101010101010101)) >> np.uint64(56)).astype(np.int64)
    return ones


METRIC = Metric(
    lambda captions: MetricResult({"ROUGE_L": rouge_l(captions.unsplit_table, captions.unsplit_unigrams)}),
    scores=("ROUGE_L",),
    monitors=("ROUGE_L",),
)
