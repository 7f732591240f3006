"""METEOR as a metric. "METEOR": by captioner's own code or by the jar (`meteor.backend`); "METEOR_java": by the jar.

The second is for a table with both.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from captioner.metrics.java import MetricUnavailable
from captioner.metrics.meteor.jar import shared_jar
from captioner.metrics.meteor.meteor import Meteor
from captioner.metrics.meteor.resources import load_resources
from captioner.metrics.meteor.statistics import addable, scores
from captioner.metrics.metric import Metric, MetricResult, TokenizedCaptions
from captioner.metrics.ngrams import Floats, Integers


def evaluate(statistics: Floats) -> tuple[Floats, float]:
    """(I,) scores of (I, 23) statistics, and the corpus score: that of their sums, not the mean."""
    sums = addable(statistics)
    return scores(sums), float(scores(sums.sum(axis=0)))


@lru_cache(maxsize=1)
def shared_meteor() -> Meteor:
    """The one that all scoring in this process uses; what it has looked up serves later calls."""
    return Meteor()


def _compute(captions: TokenizedCaptions) -> MetricResult:
    if captions.meteor_backend == "java":
        try:
            result = _compute_java(captions)
        except MetricUnavailable as error:
            other = "meteor.backend=python gives the same scores without Java."
            raise MetricUnavailable(f"{error} Or leave out meteor.backend=java: {other}") from error
        return MetricResult(
            {"METEOR": result.per_image["METEOR_java"]},
            {"METEOR": result.corpus["METEOR_java"]},
            statistics=result.statistics,
            signature=_signature("java"),
        )
    statistics = shared_meteor().statistics(captions.hypothesis_texts, captions.reference_texts)
    per_image, corpus = evaluate(statistics)
    return MetricResult(
        {"METEOR": per_image}, {"METEOR": corpus}, statistics=statistics, signature=_signature("python")
    )


def _signature(backend: str) -> dict[str, str]:
    return {"version": "1.5", "backend": backend}


def _resample(statistics: Any, rows: Integers, weights: Floats) -> dict[str, Floats]:
    return {"METEOR": scores(weights @ addable(statistics[rows]))}


def _compute_java(captions: TokenizedCaptions) -> MetricResult:
    jar = shared_jar()
    statistics = jar.statistics(captions.hypothesis_texts, captions.reference_texts)
    per_image, corpus = jar.evaluate(statistics)
    return MetricResult({"METEOR_java": per_image}, {"METEOR_java": corpus}, statistics=statistics)


def _resample_java(statistics: Any, rows: Integers, weights: Floats) -> dict[str, Floats]:
    return {"METEOR_java": shared_jar().evaluate_totals(statistics[rows], weights)}


METRIC = Metric(_compute, scores=("METEOR",), monitors=("METEOR",), resample=_resample, check=load_resources)
METRIC_JAVA = Metric(_compute_java, scores=("METEOR_java",), resample=_resample_java, bootstrap_by_default=False)
