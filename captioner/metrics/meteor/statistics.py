"""METEOR's 23 statistics of a caption, and its score from their sums.

Columns: words of the hypothesis and of the reference, function words of both; for each module the matched content words
of both and the matched function words of both; chunks; matched words of both.

    P, R  = Σ_m w_m (δ matched content words_m + (1 − δ) matched function words_m)
            / (δ content words + (1 − δ) function words)
    score = (1 − γ (chunks / matched words)^β) · P R / (α P + (1 − α) R)

with α = 0.85, β = 0.2, γ = 0.6, δ = 0.75 (Denkowski and Lavie 2014, section 3, the values for ranking).
A hypothesis that matches completely in one chunk is given no penalty, and no chunk in the sums.
"""

from __future__ import annotations

import numpy as np

from captioner.metrics.meteor.candidates import Candidates
from captioner.metrics.meteor.captions import Captions
from captioner.metrics.meteor.search import Alignments
from captioner.metrics.ngrams import Floats, Integers
from captioner.metrics.ragged import starts_of

HYPOTHESIS_WORDS, REFERENCE_WORDS, HYPOTHESIS_FUNCTION, REFERENCE_FUNCTION = range(4)
FIRST_MODULE, CHUNKS, HYPOTHESIS_MATCHES, REFERENCE_MATCHES, COLUMNS = 4, 20, 21, 22, 23
ALPHA, BETA, GAMMA, DELTA = 0.85, 0.2, 0.6, 0.75
MODULE_WEIGHTS = (1.0, 0.6, 0.8, 0.6)
"""w_m of equal words, stems, synonyms and paraphrases."""


def pair_statistics(
    captions: Captions,
    hypotheses: Integers,
    references: Integers,
    candidates: Candidates,
    alignments: Alignments,
    is_function: Integers,
) -> Integers:
    """(P, 23) statistics of P pairs of captions. is_function: (W,) of the words of `captions`, 1 or 0."""
    before = starts_of(is_function)  # function words before each word
    found = np.zeros((len(references), COLUMNS), np.int64)
    flat = found.reshape(-1)
    pair, chosen = alignments.pair, alignments.candidate
    module = candidates.module[chosen]
    for side, (caption, starts, lengths) in enumerate(
        (
            (hypotheses, candidates.hypothesis_start, candidates.hypothesis_length),
            (references, candidates.start, candidates.length),
        )
    ):
        first, end = captions.word_starts[caption], captions.word_starts[caption + 1]
        found[:, HYPOTHESIS_WORDS + side] = end - first
        found[:, HYPOTHESIS_FUNCTION + side] = before[end] - before[first]
        start, length = first[pair] + starts[chosen], lengths[chosen]
        functions = before[start + length] - before[start]
        np.add.at(flat, pair * COLUMNS + FIRST_MODULE + 4 * module + side, length - functions)
        np.add.at(flat, pair * COLUMNS + FIRST_MODULE + 4 * module + 2 + side, functions)
        np.add.at(flat, pair * COLUMNS + HYPOTHESIS_MATCHES + side, length)
    found[:, CHUNKS] = alignments.chunks
    return found


def addable(statistics: Floats) -> Floats:
    """(…, 23) the statistics as METEOR sums them: a complete match in one chunk counts no chunk."""
    whole = (
        (statistics[..., CHUNKS] == 1)
        & (statistics[..., HYPOTHESIS_MATCHES] == statistics[..., HYPOTHESIS_WORDS])
        & (statistics[..., REFERENCE_MATCHES] == statistics[..., REFERENCE_WORDS])
    )
    sums: Floats = np.array(statistics, np.float64)
    sums[whole, CHUNKS] = 0
    return sums


def scores(sums: Floats) -> Floats:
    """(…,) scores of (…, 23) sums of `addable` statistics."""
    precision = _weighted_share(sums, 0)
    recall = _weighted_share(sums, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = 1 / ((1 - ALPHA) / precision + ALPHA / recall)
        matches = (sums[..., HYPOTHESIS_MATCHES] + sums[..., REFERENCE_MATCHES]) / 2
        penalty = GAMMA * np.power(sums[..., CHUNKS] / matches, BETA)
        found: Floats = mean * (1 - penalty)
    return np.where(np.isfinite(found), found, 0.0)


def _weighted_share(sums: Floats, side: int) -> Floats:
    """Precision (side 0) or recall (side 1)."""
    matched = np.zeros(sums.shape[:-1])
    for module, weight in enumerate(MODULE_WEIGHTS):  # a product of matrices would round as their shape demands
        first = FIRST_MODULE + 4 * module + side
        matched += weight * (DELTA * sums[..., first] + (1 - DELTA) * sums[..., first + 2])
    function_words = sums[..., HYPOTHESIS_FUNCTION + side]
    words = DELTA * (sums[..., HYPOTHESIS_WORDS + side] - function_words) + (1 - DELTA) * function_words
    with np.errstate(divide="ignore", invalid="ignore"):
        share: Floats = matched / words
    return np.where(words > 0, share, 0.0)
