"""CIDEr-D, which the COCO evaluation reports under the name CIDEr, and plain CIDEr.

Both compare TF-IDF vectors of n-grams. With g_n(c) the vector of a caption's n-gram counts, each times
idf = log N - log max(1, df), N images, df of them with a reference that has the n-gram:

    CIDEr_n(c, S)   = 1/|S| · sum over references s of  g_n(c) · g_n(s) / (|g_n(c)| |g_n(s)|)
    CIDEr-D_n(c, S) = 1/|S| · sum over references s of  min(g_n(c), g_n(s)) · g_n(s) / (|g_n(c)| |g_n(s)|)
                              · exp(-(l(c) - l(s))^2 / (2 sigma^2))

and the score is 10 times the mean over n = 1 … 4. Vedantam et al. 2015, equations 1 to 4 and section 7.
As in the official code the length l is the number of bigrams, so captions of 0 and of 1 word both have
length 0. The document frequencies come from the scored set itself: a score depends on all images, and
one image alone scores 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from captioner.metrics.metric import Metric, MetricResult
from captioner.metrics.ngrams import CaptionTable, Floats, Integers, NgramCounts

SIGMA = 6.0
SCALE = 10.0


def cider_d(table: CaptionTable, counts: Sequence[NgramCounts]) -> Floats:
    """(I,): CIDEr-D of each image, 0 to 10; `counts[k - 1]` has the k-grams. The corpus value is the mean."""
    return _consensus(table, counts, deter_gaming=True)


def cider(table: CaptionTable, counts: Sequence[NgramCounts]) -> Floats:
    """(I,): plain CIDEr of each image, without clipping and without the length penalty; arguments as in `cider_d`."""
    return _consensus(table, counts, deter_gaming=False)


def inverse_document_frequency(document_frequency: Integers, images: int) -> Floats:
    """log N - log max(1, df), exactly 0 where df = N. `images`: N, at least every df."""
    logarithms = np.log(np.arange(1, images + 1))  # from one table, so that equal values cancel exactly
    idf: Floats = logarithms[-1] - logarithms[np.maximum(document_frequency, 1) - 1]
    return idf


def length_penalty(hypothesis_length: Integers, reference_length: Integers) -> Floats:
    """CIDEr-D's Gaussian factor for pairs of captions with these lengths in words."""
    difference = np.maximum(hypothesis_length - 1, 0) - np.maximum(reference_length - 1, 0)
    penalty: Floats = np.exp(-(difference**2) / (2 * SIGMA**2))
    return penalty


def _consensus(table: CaptionTable, counts: Sequence[NgramCounts], deter_gaming: bool) -> Floats:
    hypothesis = table.hypothesis[table.image[table.reference]]  # of each reference's image
    similarity = np.zeros(len(table.reference))
    for of_one_length in counts:
        similarity += _cosine(table, of_one_length, hypothesis, clip=deter_gaming)
    similarity /= len(counts)
    if deter_gaming:
        similarity *= length_penalty(table.lengths[hypothesis], table.lengths[table.reference])
    scores: Floats = SCALE * np.add.reduceat(similarity, table.reference_starts) / table.references_per_image
    return scores


def _cosine(table: CaptionTable, counts: NgramCounts, hypothesis: Integers, clip: bool) -> Floats:
    """(C - I,): the similarity of each reference and its hypothesis, 0 if either vector is 0."""
    weights = counts.count * inverse_document_frequency(counts.document_frequency, table.images)[counts.gram]
    norm = np.sqrt(np.bincount(counts.caption, weights=weights**2, minlength=table.captions))
    in_reference = weights[counts.shared_reference]
    in_hypothesis = weights[counts.shared_hypothesis]
    if clip:
        in_hypothesis = np.minimum(in_hypothesis, in_reference)
    caption = counts.caption[counts.shared_reference]
    product = np.bincount(caption, weights=in_hypothesis * in_reference, minlength=table.captions)[table.reference]
    norms = norm[hypothesis] * norm[table.reference]
    similarity: Floats = np.divide(product, norms, out=np.zeros(len(norms)), where=norms > 0)
    return similarity


METRIC = Metric(
    lambda captions: MetricResult({"CIDEr": cider_d(captions.table, captions.ngrams)}),
    scores=("CIDEr",),
    monitors=("CIDEr",),
)
METRIC_PLAIN = Metric(
    lambda captions: MetricResult({"CIDEr_plain": cider(captions.table, captions.ngrams)}), scores=("CIDEr_plain",)
)
