"""How different several captions of one image are from each other, and how good the best and the mean of them are.

c_1 … c_n are the captions of an image, best first; S are its references.

    Self_CIDEr    -log_n (√λ_1 / Σ_i √λ_i), λ_1 ≥ … ≥ λ_n the eigenvalues of the n × n matrix K_ij = CIDEr(c_i, c_j),
                  the mean over k = 1 … 4 of the cosine of TF-IDF vectors of k-grams (Wang & Chan 2019, section 3.2).
                  0: all captions are equal; 1: no two have a word in common. The mean over images.
    mBLEU_4       BLEU-4 of the i-th captions of all images against the other captions of their images, the mean over
                  i = 1 … n (Shetty et al. 2017, section 4.3). Lower is more diverse; 1: all captions are equal.
    Div_1, Div_2  the number of different words (bigrams) of c_1 … c_n divided by the number of words (there). The mean
                  over images. Not Distinct_n of the metric Diversity (Li et al. 2016), which is over the whole corpus.
    Oracle_CIDEr  max_i CIDEr-D(c_i, S), and Mean_CIDEr its mean over i. The mean over images.

Document frequencies are those of the references, as for CIDEr.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from captioner.metrics.bleu import BleuStatistics, bleu, bleu_statistics
from captioner.metrics.cider import cider_d
from captioner.metrics.java import MetricUnavailable
from captioner.metrics.metric import Caption, Metric, MetricResult, TokenizedCaptions
from captioner.metrics.ngrams import LONGEST, Floats, Integers, count_ngrams, encode

NAME = "Caption_sets"
Ngram = tuple[str, ...]


def ngrams_of(caption: Caption, n: int) -> list[Ngram]:
    """The n-grams of a caption, in order."""
    return [tuple(caption[start : start + n]) for start in range(len(caption) - n + 1)]


def div(captions: Sequence[Caption], n: int) -> float:
    """Div-n of the captions of one image: different n-grams / words; 0 where there is no word."""
    different = {gram for caption in captions for gram in ngrams_of(caption, n)}
    return len(different) / max(1, sum(map(len, captions)))


def inverse_document_frequencies(references: Iterable[Sequence[Caption]]) -> tuple[dict[Ngram, float], float]:
    """N-gram → log N − log df, df of the N images having a reference with it; and log N, for all other n-grams."""
    counts: Counter[Ngram] = Counter()
    images = 0
    for of_image in references:
        images += 1
        counts.update({gram for caption in of_image for n in range(1, LONGEST + 1) for gram in ngrams_of(caption, n)})
    most = math.log(max(1, images))
    return {gram: most - math.log(count) for gram, count in counts.items()}, most


def self_cider(captions: Sequence[Caption], idf: Mapping[Ngram, float], most: float) -> float:
    """Self-CIDEr of two or more captions of one image. idf, most: see `inverse_document_frequencies`."""
    kernel = sum((_cosines(captions, n, idf, most) for n in range(1, LONGEST + 1)), np.zeros(())) / LONGEST
    roots = np.sqrt(np.clip(np.linalg.eigvalsh(kernel), 0, None))
    total = float(roots.sum())
    if not total:  # no caption has a word that tells images apart
        return 0.0
    return max(0.0, -math.log(float(roots.max()) / total) / math.log(len(captions)))


def _cosines(captions: Sequence[Caption], n: int, idf: Mapping[Ngram, float], most: float) -> Floats:
    """(m, m): the cosines of the TF-IDF vectors of n-grams; 0 for a caption without any, as in CIDEr."""
    counts = [Counter(ngrams_of(caption, n)) for caption in captions]
    columns = {gram: column for column, gram in enumerate(dict.fromkeys(gram for of in counts for gram in of))}
    vectors = np.zeros((len(captions), len(columns)))
    for row, of_caption in enumerate(counts):
        for gram, count in of_caption.items():
            vectors[row, columns[gram]] = count * idf.get(gram, most)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    units = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)
    cosines: Floats = units @ units.T
    return cosines


def _compute(captions: TokenizedCaptions) -> MetricResult:
    sets = captions.sets
    if sets is None:
        raise MetricUnavailable("it needs several captions per image: evaluate.py checkpoint=… captions_per_image=5")
    count = len(sets[0])
    words = [[" ".join(caption).split() if captions.split_tokens else caption for caption in one] for one in sets]
    ciders = np.stack([_cider_of(captions, place) for place in range(count)])
    result = MetricResult(
        per_image={
            "Div_1": np.array([div(of_image, 1) for of_image in words]),
            "Div_2": np.array([div(of_image, 2) for of_image in words]),
            "Oracle_CIDEr": ciders.max(axis=0),
            "Mean_CIDEr": ciders.mean(axis=0),
        },
        signature={"captions_per_image": count},
    )
    if len(sets) > 1:
        idf, most = inverse_document_frequencies(
            [[" ".join(caption).split() for caption in one] for one in captions.references]
            if captions.split_tokens
            else captions.references
        )
        result.per_image = {
            "Self_CIDEr": np.array([self_cider(of_image, idf, most) for of_image in words])
        } | result.per_image
    else:
        result.unavailable["Self_CIDEr"] = "CIDEr compares words by how many images they belong to: it needs several"
    result.statistics = [_bleu_of(words, place) for place in range(count)]
    result.corpus = {"mBLEU_4": float(_mutual_bleu([of_place.total() for of_place in result.statistics]))}
    return result


def _cider_of(captions: TokenizedCaptions, place: int) -> Floats:
    """(I,): CIDEr-D of the captions at this place of the sets."""
    assert captions.sets is not None
    of_place = replace(captions, hypotheses=[of_image[place] for of_image in captions.sets])
    return cider_d(of_place.table, of_place.ngrams)


def _bleu_of(words: Sequence[Sequence[Caption]], place: int) -> BleuStatistics:
    """The statistics of BLEU of the captions at this place, with the others of their images as references."""
    others = [[*of_image[:place], *of_image[place + 1 :]] for of_image in words]
    table = encode([of_image[place] for of_image in words], others)
    return bleu_statistics(table, count_ngrams(table))


def _mutual_bleu(totals: Sequence[BleuStatistics]) -> Any:
    """BLEU-4, the mean over the places."""
    return np.mean([bleu(total)[..., LONGEST - 1] for total in totals], axis=0)


def _resample(statistics: Any, rows: Integers, weights: Floats) -> dict[str, Floats]:
    totals = [
        BleuStatistics(*(np.tensordot(weights, part[rows], axes=1) for part in of_place)) for of_place in statistics
    ]
    return {"mBLEU_4": _mutual_bleu(totals)}


METRIC = Metric(
    _compute,
    scores=("Self_CIDEr", "mBLEU_4", "Div_1", "Div_2", "Oracle_CIDEr", "Mean_CIDEr"),
    percentages=("mBLEU_4", "Oracle_CIDEr", "Mean_CIDEr"),
    lower_is_better=("mBLEU_4",),
    resample=_resample,
)
