"""Fits a calibration: which captions are good, the logistic regression, and the subspace of known images.

Every reported figure is cross-validated: the images are divided into ten parts, and each part is judged by what was
fitted on the other nine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from captioner.checkpoint.calibration import (
    Calibration,
    CalibrationRecord,
    confidence_inputs,
    sigmoid,
    subspace_share,
)
from captioner.config import DecodeConfig
from captioner.errors import DataError
from captioner.metrics.cider import cider_d
from captioner.metrics.metric import Caption, TokenizedCaptions

DIMENSIONS = 64  # of the subspace
PARTS = 10
BINS = 10
LEAST_IMAGES = 100
GOOD_QUANTILE = 0.25  # three of four reference captions are good
UNLIKE_QUANTILE = 0.05  # share of known images that are taken for unlike ones
PENALTY = 1.0  # of the squared weights


@dataclass(frozen=True, eq=False)
class GeneratedCaptions:
    """The captions of I images, as they are calibrated.

    vectors: the encoder's image vectors. log_probs: of the captions; lengths: their tokens, <END> counted; gains: of
    their words (`gain_of_words`), None where no class has a weight.
    captions, references: tokens, as they are scored.
    """

    vectors: Float[np.ndarray, "I D"]
    log_probs: Float[np.ndarray, " I"]
    lengths: Float[np.ndarray, " I"]
    captions: Sequence[Caption]
    references: Sequence[Sequence[Caption]]
    gains: Float[np.ndarray, " I"] | None = None

    def inputs(self, familiarity: Float[np.ndarray, " I"]) -> Float[np.ndarray, "I N"]:
        """The inputs of the logistic regression; without gains three."""
        gains = np.zeros(len(self.captions)) if self.gains is None else self.gains
        inputs = confidence_inputs(self.log_probs, self.lengths, familiarity, gains)
        return inputs[:, :3] if self.gains is None else inputs


@dataclass(frozen=True)
class ReliabilityBin:
    """The captions whose confidence is between two bounds: how many, their mean confidence, the share that is good."""

    low: float
    high: float
    captions: int
    confidence: float
    good: float


def fit_calibration(
    generated: GeneratedCaptions, decode: DecodeConfig, data: str, split: str
) -> tuple[Calibration, list[ReliabilityBin]]:
    """The calibration of a model's captions of a validation split, and its cross-validated reliability.

    Raises DataError for fewer than 100 images, for images with a single reference, and where all captions are good or
    none is.
    """
    images = len(generated.captions)
    if images < LEAST_IMAGES:
        raise DataError(f"A calibration needs {LEAST_IMAGES} images or more, and this split has {images}.")
    good_at, good = judge_captions(generated)
    if good.all() or not good.any():
        raise DataError(
            f"{'All' if good.all() else 'None'} of the {images} captions have a CIDEr-D of {good_at:.2f}, the level "
            "of three of four reference captions: there is nothing to tell apart. Train the model longer, or use a "
            "larger split."
        )
    familiarity, confidence = cross_validate(generated, good)
    bins = reliability(confidence, good)
    unlike_below = float(np.quantile(familiarity, UNLIKE_QUANTILE))
    subspace = principal_subspace(generated.vectors)
    inputs = generated.inputs(familiarity)
    intercept, weights, means, scales = fit_logistic(inputs, good)
    record = CalibrationRecord(
        data=data,
        split=split,
        images=images,
        good_at=good_at,
        good=float(good.mean()),
        calibration_error=expected_calibration_error(bins),
        auc=area_under_curve(confidence, good),
        unlike_below=unlike_below,
        unlike=float((familiarity < unlike_below).mean()),
    )
    return Calibration(subspace, intercept, weights, means, scales, decode, record), bins


def judge_captions(generated: GeneratedCaptions) -> tuple[float, Bool[np.ndarray, " I"]]:
    """The CIDEr-D that three of four reference captions reach against the others; which captions reach it."""
    references = generated.references
    if min(map(len, references)) < 2:
        raise DataError("A calibration compares reference captions with each other: every image needs two or more.")
    of_references = [
        _cider_d([captions[k] for captions in chosen], [[*captions[:k], *captions[k + 1 :]] for captions in chosen])
        for k in range(max(map(len, references)))
        if (chosen := [captions for captions in references if len(captions) > k])
    ]
    good_at = float(np.quantile(np.concatenate(of_references), GOOD_QUANTILE))
    return good_at, _cider_d(generated.captions, references) >= good_at


def _cider_d(captions: Sequence[Caption], references: Sequence[Sequence[Caption]]) -> Float[np.ndarray, " I"]:
    tokenized = TokenizedCaptions(captions, references)
    return cider_d(tokenized.table, tokenized.ngrams)


def cross_validate(
    generated: GeneratedCaptions, good: Bool[np.ndarray, " I"]
) -> tuple[Float[np.ndarray, " I"], Float[np.ndarray, " I"]]:
    """Familiarity and confidence of every image, each fitted on the other parts."""
    order = np.random.default_rng(0).permutation(len(good))
    parts = np.array_split(order, PARTS)
    familiarity, confidence = np.zeros(len(good)), np.zeros(len(good))
    for part in parts:
        others = np.setdiff1d(order, part)
        familiarity[part] = subspace_share(generated.vectors[part], principal_subspace(generated.vectors[others]))
    inputs = generated.inputs(familiarity)
    for part in parts:
        others = np.setdiff1d(order, part)
        intercept, weights, means, scales = fit_logistic(inputs[others], good[others])
        confidence[part] = sigmoid(intercept + ((inputs[part] - means) / scales) @ weights)
    return familiarity, confidence


def principal_subspace(vectors: Float[np.ndarray, "I D"]) -> Float[np.ndarray, "K D"]:
    """The 64 largest principal directions of the vectors, each scaled to length 1 first, about the origin."""
    unit = vectors.astype(np.float64) / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    values, directions = np.linalg.eigh(unit.T @ unit)  # in increasing order
    largest = directions[:, np.argsort(values)[::-1][:DIMENSIONS]].T
    return np.ascontiguousarray(largest.astype(np.float32))


def fit_logistic(
    inputs: Float[np.ndarray, "I N"], good: Bool[np.ndarray, " I"]
) -> tuple[float, Float[np.ndarray, " N"], Float[np.ndarray, " N"], Float[np.ndarray, " N"]]:
    """Intercept, weights, and the inputs' means and scales, by Newton's method on the penalized log-likelihood.

    −Σ log p(good | standardized inputs) + ½ · ‖weights‖² is convex; it ends where the step is below 1e-10.
    """
    means, scales = inputs.mean(axis=0), inputs.std(axis=0)
    scales = np.where(scales > 0, scales, 1.0)
    design = np.column_stack([np.ones(len(inputs)), (inputs - means) / scales])
    penalty = PENALTY * np.diag([0.0] + [1.0] * inputs.shape[1])
    parameters = np.zeros(design.shape[1])
    for _ in range(100):
        probability = sigmoid(design @ parameters)
        gradient = design.T @ (probability - good) + penalty @ parameters
        hessian = (design * (probability * (1 - probability))[:, None]).T @ design + penalty
        step = np.linalg.solve(hessian, gradient)
        parameters -= step
        if np.abs(step).max() < 1e-10:
            break
    return float(parameters[0]), parameters[1:], means, scales


def reliability(confidence: Float[np.ndarray, " I"], good: Bool[np.ndarray, " I"]) -> list[ReliabilityBin]:
    """Captions by their confidence, in ten bins of equal width; empty bins are left out."""
    number = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return [
        ReliabilityBin(
            low=bin_number / BINS,
            high=(bin_number + 1) / BINS,
            captions=int(inside.sum()),
            confidence=float(confidence[inside].mean()),
            good=float(good[inside].mean()),
        )
        for bin_number in range(BINS)
        if (inside := number == bin_number).any()
    ]


def expected_calibration_error(bins: Sequence[ReliabilityBin]) -> float:
    """The mean over captions of |confidence − share that is good| of their bins (Guo et al. 2017, equation 5)."""
    total = sum(one.captions for one in bins)
    return sum(one.captions * abs(one.confidence - one.good) for one in bins) / total


def area_under_curve(scores: Float[np.ndarray, " I"], positive: Bool[np.ndarray, " I"]) -> float:
    """The probability that a good caption has a higher score than another; equal scores count half."""
    differences = scores[positive][:, None] - scores[~positive][None]
    return float(((differences > 0) + 0.5 * (differences == 0)).mean())
