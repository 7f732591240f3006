"""Captioners that ignore the image score badly; reference captions agree with each other."""

from __future__ import annotations

import pytest

from benchmarks.scenes_blind import best_on, captions_of, human, most_frequent, score_for_all


@pytest.fixture(scope="module")
def train() -> dict[int, tuple[str, ...]]:
    return captions_of("train", 400)


@pytest.fixture(scope="module")
def test() -> dict[int, tuple[str, ...]]:
    return captions_of("test", 200)


def test_the_most_frequent_caption_scores_badly(
    train: dict[int, tuple[str, ...]], test: dict[int, tuple[str, ...]]
) -> None:
    scores = score_for_all(most_frequent(train), test)
    assert scores["Bleu_4"] < 0.15
    assert scores["CIDEr"] < 0.2


@pytest.mark.parametrize("metric", ["Bleu_4", "CIDEr"])
def test_the_best_caption_for_all_images_scores_badly(
    train: dict[int, tuple[str, ...]], test: dict[int, tuple[str, ...]], metric: str
) -> None:
    scores = score_for_all(best_on(train, metric, candidates=60), test)
    assert scores["Bleu_4"] < 0.15
    assert scores["CIDEr"] < 0.25


def test_reference_captions_agree_with_each_other(test: dict[int, tuple[str, ...]]) -> None:
    scores = human(test)
    assert 0.3 < scores["Bleu_4"] < 0.5
    assert scores["CIDEr"] > 1.5
