"""How sure a score is, and whether the difference of two systems is more than the choice of images.

The paired bootstrap (Koehn 2004) draws as many images as there are, with replacement, many times over,
and scores both systems on each draw. BLEU and METEOR are corpus scores, recomputed for each draw from
the images' statistics; ROUGE-L and CIDEr are means over images (CIDEr's document frequencies stay those
of the whole set). The two-sided p-value is the share of draws, counting the observed one, whose
difference lies at least as far from the draws' mean as the observed difference lies from 0: the draws
shifted to what they would be if the systems were equal (Riezler and Maxwell 2005).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from captioner.errors import ConfigError, DataError
from captioner.metrics.bleu import BleuStatistics, bleu
from captioner.metrics.coco_results import ImageId
from captioner.metrics.meteor import shared_meteor
from captioner.metrics.ngrams import Floats
from captioner.metrics.scorer import Scores

MEANS = ("ROUGE_L", "CIDEr", "CIDEr_plain", "SPICE")  # the figures whose corpus value is the images' mean
SAMPLES_AT_ONCE = 100  # bounds the memory of the draws: this many times the images, 8 bytes each


@dataclass(frozen=True)
class Interval:
    """A corpus score and where it lies for other images of the kind."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """Two systems on the same images: `difference` is the second minus the first, with its interval and p-value."""

    first: float
    second: float
    difference: float
    low: float
    high: float
    p_value: float


def bootstrap_intervals(
    scores: Scores, *, samples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> dict[str, Interval]:
    """Figure → its percentile interval, for BLEU, ROUGE-L, CIDEr, METEOR and SPICE where they were scored."""
    image_ids = _image_order(scores)
    _check_settings(samples, confidence)
    drawn = _scores_of_draws(scores, image_ids, samples, seed)
    intervals = {}
    for name, values in drawn.items():
        low, high = percentiles(values, confidence)
        intervals[name] = Interval(scores.corpus[name], low, high)
    return intervals


def paired_bootstrap(
    first: Scores, second: Scores, *, samples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> dict[str, Comparison]:
    """Figure → comparison, for what both have of BLEU, ROUGE-L, CIDEr, METEOR and SPICE.

    Both must have scored the same images against the same references with the same tokenizer, else DataError.
    """
    _check_settings(samples, confidence)
    if first.signature != second.signature or first.per_image.keys() != second.per_image.keys():
        differing = [key for key, value in first.signature.items() if second.signature.get(key) != value]
        raise DataError(
            "These scores cannot be compared: they differ in "
            f"{', '.join(differing) or 'the images scored'}. Score both on the same images in the same way."
        )
    image_ids = _image_order(first)
    drawn_first = _scores_of_draws(first, image_ids, samples, seed)
    drawn_second = _scores_of_draws(second, image_ids, samples, seed)
    comparisons = {}
    for name in drawn_first:
        if name not in drawn_second:
            continue
        differences = drawn_second[name] - drawn_first[name]
        observed = second.corpus[name] - first.corpus[name]
        low, high = percentiles(differences, confidence)
        as_far = np.abs(differences - differences.mean()) >= abs(observed)
        p_value = (int(as_far.sum()) + 1) / (samples + 1)
        comparisons[name] = Comparison(first.corpus[name], second.corpus[name], observed, low, high, p_value)
    return comparisons


def _check_settings(samples: int, confidence: float) -> None:
    if samples < 1:
        raise ConfigError(f"samples={samples}: a bootstrap needs at least 1, and 1000 for a p-value of 0.01.")
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence={confidence}: expected a share between 0 and 1, such as 0.95.")


def _image_order(scores: Scores) -> list[ImageId]:
    """An order that does not depend on the one the images came in, so that a seed draws the same images."""
    return sorted(scores.per_image, key=lambda image_id: (str(image_id), isinstance(image_id, str)))


def image_draws(images: int, samples: int, seed: int) -> Iterator[Floats]:
    """(≤ SAMPLES_AT_ONCE, I) at a time: how often each sample has each image."""
    generator = np.random.default_rng(seed)
    for start in range(0, samples, SAMPLES_AT_ONCE):
        drawn = generator.integers(images, size=(min(SAMPLES_AT_ONCE, samples - start), images))
        yield np.stack([np.bincount(row, minlength=images) for row in drawn]).astype(np.float64)


def _scores_of_draws(scores: Scores, image_ids: list[ImageId], samples: int, seed: int) -> dict[str, Floats]:
    """Figure → (samples,) its corpus value on each draw. The same seed draws the same images of the same ids."""
    row_of = {image_id: row for row, image_id in enumerate(scores.per_image)}
    rows = [row_of[image_id] for image_id in image_ids]
    means = [name for name in MEANS if name in scores.corpus]
    values = np.array([[scores.per_image[image_id][name] for name in means] for image_id in image_ids])
    drawn: dict[str, list[Floats]] = {}
    for weights in image_draws(len(image_ids), samples, seed):
        if scores.bleu_statistics is not None:
            totals = BleuStatistics(*(np.tensordot(weights, part[rows], axes=1) for part in scores.bleu_statistics))
            for n, column in enumerate(bleu(totals).T, start=1):
                drawn.setdefault(f"Bleu_{n}", []).append(column)
        for name, column in zip(means, (weights @ values / len(image_ids)).T, strict=True):
            drawn.setdefault(name, []).append(column)
        if scores.meteor_statistics is not None:
            totals_of = shared_meteor().evaluate_totals(scores.meteor_statistics[rows], weights)
            drawn.setdefault("METEOR", []).append(totals_of)
    return {name: np.concatenate(parts) for name, parts in drawn.items()}


def percentiles(values: Floats, confidence: float) -> tuple[float, float]:
    """Between which two values so large a share of these lies, as much below them as above."""
    tail = 50 * (1 - confidence)
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)
