"""METEOR as a metric: without Java ("METEOR"), or by the jar itself ("METEOR_java")."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from captioner.files import cache_directory
from captioner.metrics.meteor.alignment import align
from captioner.metrics.meteor.candidates import CandidateFinder
from captioner.metrics.meteor.jar import clean, shared_jar
from captioner.metrics.meteor.normalizer import normalize
from captioner.metrics.meteor.statistics import COLUMNS, addable, alignment_statistics, scores
from captioner.metrics.metric import Metric, MetricResult, TokenizedCaptions
from captioner.metrics.ngrams import Floats, Integers


class Meteor:
    """METEOR 1.5 in Python: the statistics equal those of the jar, the scores to 1e-12.

    Raises MetricUnavailable where pycocoevalcap, whose word lists it reads, is not installed.
    """

    def __init__(self) -> None:
        self._finder = CandidateFinder(cache_directory())
        self._words = lru_cache(maxsize=50_000)(self._find_words)

    def statistics(self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Floats:
        """(I, 23) statistics of each hypothesis with the reference of its best score, the first of equal ones.

        hypotheses: (I,) captions; references: (I,) one or more captions each; both as tokens joined by spaces.
        """
        counts = [len(captions) for captions in references]
        rows = np.array(
            [
                self._statistics_of_pair(self._words(hypothesis), self._words(caption))
                for hypothesis, captions in zip(hypotheses, references, strict=True)
                for caption in captions
            ],
            np.float64,
        ).reshape(-1, COLUMNS)
        every = scores(addable(rows))
        ends = np.cumsum(counts, dtype=np.int64)
        best = [end - count + int(np.argmax(every[end - count : end])) for end, count in zip(ends, counts, strict=True)]
        return rows[np.array(best, np.int64)]

    def _find_words(self, caption: str) -> tuple[str, ...]:
        return tuple(normalize(clean(caption), self._finder.resources.abbreviations))

    def _statistics_of_pair(self, hypothesis: tuple[str, ...], reference: tuple[str, ...]) -> list[int]:
        alignment = align(self._finder.find(hypothesis, reference), len(reference), len(hypothesis))
        return alignment_statistics(hypothesis, reference, alignment, self._finder.resources.function_words)


def evaluate(statistics: Floats) -> tuple[Floats, float]:
    """(I,) scores of (I, 23) statistics, and the corpus score: that of their sums, not the mean."""
    sums = addable(statistics)
    return scores(sums), float(scores(sums.sum(axis=0)))


@lru_cache(maxsize=1)
def shared_meteor() -> Meteor:
    """The one that all scoring in this process uses; what it has looked up serves later calls."""
    return Meteor()


def _compute(captions: TokenizedCaptions) -> MetricResult:
    statistics = shared_meteor().statistics(captions.hypothesis_texts, captions.reference_texts)
    per_image, corpus = evaluate(statistics)
    return MetricResult({"METEOR": per_image}, {"METEOR": corpus}, statistics=statistics)


def _resample(statistics: Any, rows: Integers, weights: Floats) -> dict[str, Floats]:
    return {"METEOR": scores(weights @ addable(statistics[rows]))}


def _compute_java(captions: TokenizedCaptions) -> MetricResult:
    jar = shared_jar()
    statistics = jar.statistics(captions.hypothesis_texts, captions.reference_texts)
    per_image, corpus = jar.evaluate(statistics)
    return MetricResult({"METEOR_java": per_image}, {"METEOR_java": corpus}, statistics=statistics)


def _resample_java(statistics: Any, rows: Integers, weights: Floats) -> dict[str, Floats]:
    return {"METEOR_java": shared_jar().evaluate_totals(statistics[rows], weights)}


METRIC = Metric(_compute, scores=("METEOR",), resample=_resample)
METRIC_JAVA = Metric(_compute_java, scores=("METEOR_java",), resample=_resample_java, bootstrap_by_default=False)
