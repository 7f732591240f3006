"""Augmentation: the crops match the settings, are uniformly distributed and reproducible."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.config import AugmentConfig
from captioner.data.images.augment import Augmentation
from captioner.data.images.transforms import FULL_VIEW

STANDARD = AugmentConfig(scale=(0.4, 0.7), ratio=(0.75, 4 / 3), flip=0.5)


def views(config: AugmentConfig, count: int = 2000) -> np.ndarray:
    """(count, 5): left, top, width, height, flipped; over images and epochs."""
    augmentation = Augmentation(config, seed=3)
    return np.array([augmentation.view(number % 7, number // 7) for number in range(count)], dtype=float)


def test_by_default_there_is_no_augmentation() -> None:
    assert not AugmentConfig().active
    assert all(
        Augmentation(AugmentConfig(), seed).view(epoch, 5) == FULL_VIEW for seed in range(9) for epoch in range(9)
    )


@given(
    low=st.floats(0.01, 1),
    high=st.floats(0.01, 1),
    narrow=st.floats(0.1, 9),
    wide=st.floats(0.1, 9),
    seed=st.integers(0, 2**40),
)
@settings(deadline=None, max_examples=100)
def test_crops_are_inside_the_image_and_have_the_area_of_the_settings(
    low: float, high: float, narrow: float, wide: float, seed: int
) -> None:
    low, high = sorted((low, high))
    narrow, wide = sorted((narrow, wide))
    augmentation = Augmentation(AugmentConfig(scale=(low, high), ratio=(narrow, wide), flip=0.3), seed)
    for index in range(5):
        left, top, width, height, _ = augmentation.view(2, index)
        assert 0 <= left <= left + width <= 1 + 1e-12
        assert 0 <= top <= top + height <= 1 + 1e-12
        assert low - 1e-9 <= width * height <= high + 1e-9
        fits = low > 0 and narrow >= high and wide <= 1 / high  # this ratio fits for every area
        assert not fits or narrow - 1e-9 <= width / height <= wide + 1e-9


def test_crops_are_uniformly_distributed() -> None:
    """Kolmogorov-Smirnov test against the uniform distribution; the values are uncorrelated."""
    drawn = views(STANDARD)
    left, top, width, height, flipped = drawn.T
    shares = {
        "area": (width * height - 0.4) / 0.3,
        "ratio": np.log(width / height / 0.75) / np.log(16 / 9),
        "left": left / (1 - width),
        "top": top / (1 - height),
    }
    for name, values in shares.items():
        steps = np.arange(1, len(values) + 1) / len(values)
        assert np.abs(np.sort(values) - steps).max() < 1.95 / math.sqrt(len(values)), name  # p = 0.001
    assert abs(flipped.mean() - 0.5) < 3.3 * 0.5 / math.sqrt(len(flipped))
    correlations = np.corrcoef(np.stack([*shares.values(), flipped]))
    assert np.abs(correlations - np.eye(5)).max() < 4 / math.sqrt(len(left))


def test_a_function_of_seed_epoch_and_image() -> None:
    one = Augmentation(STANDARD, 3)
    assert one.view(4, 10) == Augmentation(STANDARD, 3).view(4, 10)
    others = {one.view(4, 11), one.view(5, 10), Augmentation(STANDARD, 4).view(4, 10), one.view(10, 4)}
    assert one.view(4, 10) not in others
    assert len(others) == 4


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_fraction_of_flipped_images(share: float) -> None:
    flipped = views(AugmentConfig(flip=share)).T[4]
    assert abs(flipped.mean() - share) <= 3.3 * math.sqrt(share * (1 - share) / len(flipped))


def test_flips_are_the_same_with_and_without_crops() -> None:
    """So training with `cache.flips` equals training from pixels with `augment.flip`."""
    assert np.array_equal(views(AugmentConfig(flip=0.5)).T[4], views(STANDARD).T[4])
