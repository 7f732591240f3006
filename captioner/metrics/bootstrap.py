"""Bootstrap confidence intervals of scores, and the paired bootstrap test of the difference of two systems.

Each bootstrap sample has as many images as the data set, sampled with replacement; the paired bootstrap
(Koehn 2004) scores both systems on the same samples. BLEU and METEOR are corpus scores, recomputed for
each sample from the images' statistics; ROUGE-L and CIDEr are means over images (CIDEr's document
frequencies stay those of the whole set). The two-sided p-value is the share of samples, counting the
observed one, whose difference is at least as far from the samples' mean as the observed difference is
from 0: the samples shifted to what they would be if the systems were equal (Riezler and Maxwell 2005).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from captioner.errors import ConfigError, DataError
from captioner.metrics.coco_results import ImageId
from captioner.metrics.ngrams import Floats
from captioner.metrics.registry import METRICS
from captioner.metrics.scorer import Scores

ROUNDING = 1e-12  # a relative difference of corpus scores that is no difference
SAMPLES_AT_ONCE = 100  # bounds the memory: this number times the number of images, 8 bytes each


@dataclass(frozen=True)
class Interval:
    """A corpus score and its confidence interval over the choice of images."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """The scores of two systems on the same images; `difference`: second minus first, with its interval and p-value."""

    first: float
    second: float
    difference: float
    low: float
    high: float
    p_value: float


def bootstrap_intervals(
    scores: Scores, *, samples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> dict[str, Interval]:
    """Score → its percentile interval, for every score that is a mean over images or can be resampled.

    samples: number of bootstrap samples; seed: of their choice. Raises ConfigError for settings out of range.
    """
    image_ids = _image_order(scores)
    _check_settings(samples, confidence)
    resampled = _resampled_scores(scores, image_ids, samples, seed)
    intervals = {}
    for name, values in resampled.items():
        low, high = percentiles(values, confidence)
        intervals[name] = Interval(scores.corpus[name], low, high)
    return intervals


def paired_bootstrap(
    first: Scores, second: Scores, *, samples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> dict[str, Comparison]:
    """Score → comparison, for every score of both that is a mean over images or can be resampled.

    Raises DataError unless both were computed on the same images against the same references with the same
    tokenizer, ConfigError for settings out of range.
    """
    _check_settings(samples, confidence)
    if first.signature != second.signature or first.per_image.keys() != second.per_image.keys():
        differing = [key for key, value in first.signature.items() if second.signature.get(key) != value]
        raise DataError(
            "These scores cannot be compared: they differ in "
            f"{', '.join(differing) or 'the images scored'}. Score both on the same images in the same way."
        )
    image_ids = _image_order(first)
    resampled_first = _resampled_scores(first, image_ids, samples, seed)
    resampled_second = _resampled_scores(second, image_ids, samples, seed)
    comparisons = {}
    for name in resampled_first:
        if name not in resampled_second:
            continue
        differences = resampled_second[name] - resampled_first[name]
        observed = second.corpus[name] - first.corpus[name]
        if abs(observed) <= ROUNDING * max(abs(first.corpus[name]), abs(second.corpus[name])):
            observed = 0.0  # equal, but for the order in which numbers were added
        low, high = percentiles(differences, confidence)
        is_as_far = np.abs(differences - differences.mean()) >= abs(observed)
        p_value = (int(is_as_far.sum()) + 1) / (samples + 1)
        comparisons[name] = Comparison(first.corpus[name], second.corpus[name], observed, low, high, p_value)
    return comparisons


def _check_settings(samples: int, confidence: float) -> None:
    if samples < 1:
        raise ConfigError(f"samples={samples}: a bootstrap needs at least 1 sample, and 1000 for a p-value of 0.01.")
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence={confidence}: expected a number between 0 and 1, such as 0.95.")


def _image_order(scores: Scores) -> list[ImageId]:
    """The image ids in an order that does not depend on the order given, so that a seed samples the same images."""
    return sorted(scores.per_image, key=lambda image_id: (str(image_id), isinstance(image_id, str)))


def image_weights(images: int, samples: int, seed: int) -> Iterator[Floats]:
    """Yield (≤ SAMPLES_AT_ONCE, I) weights: how often each bootstrap sample contains each image."""
    generator = np.random.default_rng(seed)
    for start in range(0, samples, SAMPLES_AT_ONCE):
        sampled = generator.integers(images, size=(min(SAMPLES_AT_ONCE, samples - start), images))
        yield np.stack([np.bincount(row, minlength=images) for row in sampled]).astype(np.float64)


def _resampled_scores(scores: Scores, image_ids: list[ImageId], samples: int, seed: int) -> dict[str, Floats]:
    """Score → (samples,) its corpus value on each bootstrap sample; equal seeds sample equal images of equal ids."""
    row_of = {image_id: row for row, image_id in enumerate(scores.per_image)}
    rows = np.array([row_of[image_id] for image_id in image_ids])
    values = np.array([[scores.per_image[image_id][name] for name in scores.means] for image_id in image_ids])
    parts: dict[str, list[Floats]] = {}
    for weights in image_weights(len(image_ids), samples, seed):
        resampled = dict(zip(scores.means, (weights @ values / len(image_ids)).T, strict=True))
        for metric, statistics in scores.statistics.items():
            resample = METRICS[metric].resample
            if resample is not None:
                resampled |= resample(statistics, rows, weights)
        for name, column in resampled.items():
            parts.setdefault(name, []).append(column)
    return {name: np.concatenate(parts[name]) for name in scores.corpus if name in parts}


def percentiles(values: Floats, confidence: float) -> tuple[float, float]:
    """The bounds of the central interval that contains the share `confidence` of the values."""
    tail = 50 * (1 - confidence)
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)
