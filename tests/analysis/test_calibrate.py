"""Calibration: the fit against SciPy-free oracles, the subspace against SVD, and what a command stores and shows."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from captioner.analysis import calibrate
from captioner.analysis.calibrate import (
    GeneratedCaptions,
    area_under_curve,
    cross_validate,
    expected_calibration_error,
    fit_calibration,
    fit_logistic,
    judge_captions,
    principal_subspace,
    reliability,
)
from captioner.checkpoint.calibration import sigmoid, subspace_share
from captioner.config import DecodeConfig
from captioner.errors import DataError

WORDS = ("a", "dog", "man", "runs", "on", "grass", "red", "ball")


def made(images: int = 300, seed: int = 0) -> GeneratedCaptions:
    """Captions whose log-probability tells how many of their words are those of a reference."""
    generator = np.random.default_rng(seed)
    references = [[list(generator.choice(WORDS, 6)) for _ in range(3)] for _ in range(images)]
    right = generator.random(images)
    captions = [
        [word if generator.random() < share else "xyz" for word in of_image[0]]
        for share, of_image in zip(right, references, strict=True)
    ]
    basis = np.linalg.qr(generator.normal(size=(100, 100)))[0][:70]
    vectors = generator.normal(size=(images, 70)) * np.linspace(5, 0.1, 70) @ basis
    lengths = np.full(images, 7.0)
    return GeneratedCaptions(vectors.astype(np.float32), 7 * np.log(0.2 + 0.8 * right), lengths, captions, references)


def test_the_logistic_regression_is_at_its_minimum() -> None:
    generator = np.random.default_rng(1)
    inputs = generator.normal(size=(200, 3)) * (1, 10, 0.1) + (0, 5, -3)
    good = generator.random(200) < sigmoid(inputs @ np.array([1.0, 0.1, 3.0]) + 8)
    intercept, weights, means, scales = fit_logistic(inputs, good)
    design = (inputs - means) / scales

    def loss(parameters: np.ndarray) -> float:
        logits = parameters[0] + design @ parameters[1:]
        return float(np.logaddexp(0, np.where(good, -logits, logits)).sum() + 0.5 * np.square(parameters[1:]).sum())

    found = np.array([intercept, *weights])
    for index in range(4):  # the gradient by central differences, and nothing near is better
        shift = np.eye(4)[index] * 1e-4
        assert (loss(found + shift) - loss(found - shift)) / 2e-4 == pytest.approx(0, abs=1e-5)
        assert loss(found) < min(loss(found + 100 * shift), loss(found - 100 * shift))
    assert sigmoid(intercept + design @ weights).mean() == pytest.approx(good.mean(), abs=1e-9)


def test_a_constant_input_does_no_harm() -> None:
    inputs = np.column_stack([np.arange(100.0), np.full(100, 3.0)])
    intercept, weights, _, _ = fit_logistic(inputs, np.arange(100) > 50)
    assert np.isfinite([intercept, *weights]).all()
    assert weights[1] == pytest.approx(0)


def test_the_subspace_is_that_of_the_singular_vectors() -> None:
    vectors = made().vectors
    subspace = principal_subspace(vectors)
    assert subspace.shape == (64, 100)
    np.testing.assert_allclose(subspace @ subspace.T, np.eye(64), atol=1e-5)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    directions = np.linalg.svd(unit.astype(np.float64), full_matrices=False)[2][:64]
    np.testing.assert_allclose(subspace.T @ subspace, directions.T @ directions, atol=1e-5)


def test_familiarity_is_the_share_inside() -> None:
    subspace = np.eye(4, dtype=np.float32)[:2]
    vectors = np.float32([[3, 4, 0, 0], [0, 0, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0]])
    np.testing.assert_allclose(subspace_share(vectors, subspace), [1, 0, 0.5, 0])
    np.testing.assert_allclose(subspace_share(1000 * vectors, subspace), [1, 0, 0.5, 0])


def test_reliability_by_hand() -> None:
    confidence = np.array([0.05, 0.05, 0.95, 1.0])
    good = np.array([False, True, True, True])
    low, high = reliability(confidence, good)
    assert (low.captions, low.confidence, low.good) == (2, 0.05, 0.5)
    assert (high.low, high.captions, high.confidence, high.good) == (0.9, 2, 0.975, 1.0)
    assert expected_calibration_error([low, high]) == pytest.approx((2 * 0.45 + 2 * 0.025) / 4)
    assert area_under_curve(confidence, good) == pytest.approx((0.5 + 1 + 1) / 3)


def test_three_of_four_references_are_good() -> None:
    generated = made()
    good_at, _ = judge_captions(generated)
    as_captions = [
        dataclasses.replace(
            generated,
            captions=[of_image[k] for of_image in generated.references],
            references=[[*of_image[:k], *of_image[k + 1 :]] for of_image in generated.references],
        )
        for k in range(3)
    ]
    values = [calibrate._cider_d(one.captions, one.references) for one in as_captions]
    assert (np.concatenate(values) >= good_at).mean() == pytest.approx(0.75, abs=0.01)


def test_a_calibration_tells_good_captions_and_its_figures_are_of_other_images() -> None:
    generated = made()
    calibration, bins = fit_calibration(generated, DecodeConfig(), "made", "val")
    record = calibration.record
    assert record.auc > 0.7
    assert record.calibration_error < 0.15
    assert sum(one.captions for one in bins) == record.images == 300
    assert record.unlike == pytest.approx(0.05, abs=0.01)
    confidences = [calibration.confidence(value, 7, 0.9) for value in (-20.0, -5.0, -0.1)]
    assert confidences == sorted(confidences)
    # Captions whose quality is luck: confidences of other images tell nothing, while a fit on the same images would.
    shuffled = dataclasses.replace(generated, log_probs=np.random.default_rng(3).permutation(generated.log_probs))
    assert abs(fit_calibration(shuffled, DecodeConfig(), "made", "val")[0].record.auc - 0.5) < 0.1


def test_each_part_is_judged_by_the_others() -> None:
    generated = made()
    _, good = judge_captions(generated)
    familiarity, confidence = cross_validate(generated, good)
    part = np.array_split(np.random.default_rng(0).permutation(300), 10)[0]
    changed = good.copy()
    changed[part] = ~changed[part]  # their own labels do not matter to them
    _, again = cross_validate(generated, changed)
    np.testing.assert_array_equal(confidence[part], again[part])
    others = np.setdiff1d(np.arange(300), part)
    expected = subspace_share(generated.vectors[part], principal_subspace(generated.vectors[others]))
    np.testing.assert_allclose(familiarity[part], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"references": [[["a"]]] * 300}, "every image needs two or more"),
        ({"captions": [["xyz"]] * 300}, "None of the 300 captions"),
    ],
)
def test_what_cannot_be_calibrated(change: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        fit_calibration(dataclasses.replace(made(), **change), DecodeConfig(), "made", "val")


def test_too_few_images() -> None:
    with pytest.raises(DataError, match="needs 100 images or more, and this split has 50"):
        fit_calibration(made(50), DecodeConfig(), "made", "val")


def test_gains_are_an_input_where_classes_have_a_weight() -> None:
    plain = made()
    good = calibrate.judge_captions(plain)[1]
    telling = dataclasses.replace(plain, gains=good + np.random.default_rng(0).normal(scale=0.3, size=len(good)))
    without, _ = fit_calibration(plain, DecodeConfig(), "made", "val")
    with_gains, _ = fit_calibration(telling, DecodeConfig(class_weight=1.0), "made", "val")
    assert without.weights.shape == (3,)
    assert with_gains.weights.shape == (4,)
    assert with_gains.record.auc > without.record.auc + 0.05
    low, high = (with_gains.confidence(-5.0, 7, 0.9, gain) for gain in (0.0, 1.0))
    assert low < high
    assert without.confidence(-5.0, 7, 0.9, 0.0) == without.confidence(-5.0, 7, 0.9, 1.0)
