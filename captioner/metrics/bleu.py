"""BLEU-1 … BLEU-4 as the COCO evaluation computes them.

BLEU-n = BP · (p_1 · … · p_n)^(1/n), over the whole corpus: p_k is the share of the hypotheses' k-grams
that also occur in a reference, each counted at most as often as in the reference that has most of it;
BP = exp(1 - r/c) where the hypotheses' words c are fewer than r, the sum of the reference lengths
closest to each hypothesis (of two equally close ones the shorter). Papineni et al. 2002, sections 2.1
to 2.3. The corpus value is not the mean of the images' values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from captioner.metrics.metric import Metric, MetricResult, TokenizedCaptions
from captioner.metrics.ngrams import LONGEST, CaptionTable, Floats, Integers, NgramCounts

# The COCO evaluation's guards against 0/0 and log 0. They decide the value of captions shorter than n words.
SMALL = 1e-9
TINY = 1e-15


class BleuStatistics(NamedTuple):
    """The counts from which BLEU is computed: per image, or summed over images for the corpus value.

    matched, proposed: (..., n) the hypothesis' k-grams that also occur in a reference, and all of them, k = 1 … n.
    hypothesis_length, reference_length: (...) words, the latter of the reference with the closest length.
    """

    matched: Integers | Floats
    proposed: Integers | Floats
    hypothesis_length: Integers | Floats
    reference_length: Integers | Floats

    def total(self) -> BleuStatistics:
        """The sums over images (the first axis)."""
        return BleuStatistics(*(values.sum(axis=0) for values in self))


def bleu_statistics(table: CaptionTable, counts: Sequence[NgramCounts]) -> BleuStatistics:
    """The statistics of I images, with the leading axis I; `counts[k - 1]` has the k-grams."""
    lengths = table.lengths[table.hypothesis]
    return BleuStatistics(
        matched=np.stack([_matched(table, of_one_length) for of_one_length in counts], axis=-1),
        proposed=np.maximum(lengths[:, None] - np.arange(len(counts)), 0),
        hypothesis_length=lengths,
        reference_length=_closest_reference_length(table),
    )


def bleu(statistics: BleuStatistics) -> Floats:
    """(..., n): BLEU-1 … BLEU-n of each row of the statistics."""
    return _combined((statistics.matched + TINY) / (statistics.proposed + SMALL), statistics)


def smoothed_bleu(statistics: BleuStatistics) -> Floats:
    """(..., n): BLEU-1 … BLEU-n of single captions, whose longer k-grams often match nowhere.

    From k = 2 on, one is added to the number of matching k-grams and to that of all k-grams (Lin & Och 2004, section
    4.2), so that a caption without a matching 4-gram scores more than one without a matching word. A caption that is
    too short for k-grams counts as having one that does not match.
    """
    added = np.minimum(np.arange(statistics.matched.shape[-1]), 1)
    return _combined((statistics.matched + added) / (np.maximum(statistics.proposed, 1) + added), statistics)


def _combined(precisions: Floats, statistics: BleuStatistics) -> Floats:
    """(..., n): the geometric means of the first 1 … n precisions, times the brevity penalty."""
    orders = np.arange(1, precisions.shape[-1] + 1)
    geometric_mean = np.cumprod(precisions, axis=-1) ** (1.0 / orders)
    ratio = (statistics.hypothesis_length + TINY) / (statistics.reference_length + SMALL)
    brevity_penalty = np.exp(np.minimum(1.0 - 1.0 / ratio, 0.0))
    scores: Floats = geometric_mean * brevity_penalty[..., None]
    return scores


def _matched(table: CaptionTable, counts: NgramCounts) -> Integers:
    """(I,): occurrences of n-grams in the hypothesis, clipped at the most that any one reference has."""
    if not len(counts.shared_reference):
        return np.zeros(table.images, np.int64)
    first = np.flatnonzero(np.diff(counts.shared_hypothesis, prepend=-1))
    most = np.maximum.reduceat(counts.count[counts.shared_reference], first)
    hypothesis = counts.shared_hypothesis[first]
    clipped = np.minimum(counts.count[hypothesis], most)
    image = table.image[counts.caption[hypothesis]]
    return np.bincount(image, weights=clipped, minlength=table.images).astype(np.int64)


def _closest_reference_length(table: CaptionTable) -> Integers:
    """(I,) the length of the reference that is closest in length to the hypothesis; of two, the shorter."""
    length = table.lengths[table.reference]
    distance = np.abs(length - table.lengths[table.hypothesis][table.image[table.reference]])
    # Order by distance, then by length, in one integer.
    base = int(table.lengths.max()) + 1
    closest: Integers = np.minimum.reduceat(distance * base + length, table.reference_starts) % base
    return closest


SCORES = tuple(f"Bleu_{n}" for n in range(1, LONGEST + 1))


def _compute(captions: TokenizedCaptions) -> MetricResult:
    statistics = bleu_statistics(captions.table, captions.ngrams)
    return MetricResult(
        per_image=dict(zip(SCORES, bleu(statistics).T, strict=True)),
        corpus=dict(zip(SCORES, bleu(statistics.total()).tolist(), strict=True)),
        statistics=statistics,
    )


def _resample(statistics: Any, rows: Integers, weights: Floats) -> dict[str, Floats]:
    totals = BleuStatistics(*(np.tensordot(weights, part[rows], axes=1) for part in statistics))
    return dict(zip(SCORES, bleu(totals).T, strict=True))


METRIC = Metric(_compute, scores=SCORES, monitors=SCORES, resample=_resample)
