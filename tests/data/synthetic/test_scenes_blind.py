"""A captioner that never looks at the image does badly, and people agree with each other."""

from __future__ import annotations

import pytest

from benchmarks.scenes_blind import best_on, most_frequent, people, said_of_all, sentences_of


@pytest.fixture(scope="module")
def train() -> dict[int, tuple[str, ...]]:
    return sentences_of("train", 400)


@pytest.fixture(scope="module")
def test() -> dict[int, tuple[str, ...]]:
    return sentences_of("test", 200)


def test_the_most_frequent_caption_scores_badly(
    train: dict[int, tuple[str, ...]], test: dict[int, tuple[str, ...]]
) -> None:
    figures = said_of_all(most_frequent(train), test)
    assert figures["Bleu_4"] < 0.15
    assert figures["CIDEr"] < 0.2


@pytest.mark.parametrize("figure", ["Bleu_4", "CIDEr"])
def test_the_best_caption_for_all_images_scores_badly(
    train: dict[int, tuple[str, ...]], test: dict[int, tuple[str, ...]], figure: str
) -> None:
    figures = said_of_all(best_on(train, figure, candidates=60), test)
    assert figures["Bleu_4"] < 0.15
    assert figures["CIDEr"] < 0.25


def test_people_agree_as_far_as_people_do(test: dict[int, tuple[str, ...]]) -> None:
    figures = people(test)
    assert 0.3 < figures["Bleu_4"] < 0.5
    assert figures["CIDEr"] > 1.5
