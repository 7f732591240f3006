"""Ranks of images, compared with sorting in a loop."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.metrics.retrieval_scores import (
    caption_retrieval_scores,
    chance_of_caption_retrieval,
    ranks,
    ranks_of_own_captions,
    retrieval_scores,
)


@settings(max_examples=40, deadline=None)
@given(st.data(), st.integers(1, 6), st.integers(1, 12))
def test_ranks_equal_positions_in_the_sorted_list(data: st.DataObject, captions: int, image_count: int) -> None:
    values = st.integers(-3, 3).map(float)  # few values: many ties
    table = [data.draw(st.lists(values, min_size=image_count, max_size=image_count)) for _ in range(captions)]
    images = data.draw(st.lists(st.integers(0, image_count - 1), min_size=captions, max_size=captions))
    expected = []
    for row, image in zip(table, images, strict=True):
        order = sorted(range(image_count), key=lambda other: (-row[other], other == image))
        expected.append(order.index(image) + 1)
    assert ranks(table, images).tolist() == expected
    scores = retrieval_scores(table, images)
    for k in (1, 5, 10):
        assert scores[f"R@{k}"] == pytest.approx(sum(place <= k for place in expected) / captions)
    assert scores["median_rank"] == np.median(expected)


def test_a_constant_similarity_finds_no_image() -> None:
    assert retrieval_scores(np.ones((4, 100)), [0, 1, 2, 3])["R@10"] == 0.0
    assert retrieval_scores(np.full((4, 100), np.nan), [0, 1, 2, 3])["R@10"] == 0.0


def test_a_perfect_model_finds_all() -> None:
    assert retrieval_scores(np.eye(5), range(5)) == {"R@1": 1.0, "R@5": 1.0, "R@10": 1.0, "median_rank": 1.0}


@pytest.mark.parametrize("seed", range(4))
def test_an_image_finds_the_first_of_its_captions(seed: int) -> None:
    """By sorting, with captions of other images first where they are equal; ties are frequent."""
    generator = np.random.default_rng(seed)
    table, owners = generator.integers(0, 6, (12, 4)).astype(float), generator.integers(0, 4, 12).tolist()
    expected = []
    for image in sorted(set(owners)):
        order = sorted(range(12), key=lambda row: (-table[row, image], owners[row] == image))
        expected.append(1 + min(place for place, row in enumerate(order) if owners[row] == image))
    assert ranks_of_own_captions(table, owners).tolist() == expected
    scores = caption_retrieval_scores(table, owners)
    assert scores["R@5"] == np.mean([rank <= 5 for rank in expected])
    assert scores["median_rank"] == np.median(expected)


def test_chance_of_finding_a_caption_is_that_of_all_orders() -> None:
    """Five captions of two images in all 120 orders."""
    owners = [0, 0, 1, 0, 1]
    first = [
        1 + min(place for place, caption in enumerate(order) if owners[caption] == image)
        for order in itertools.permutations(range(5))
        for image in (0, 1)
    ]
    chance = chance_of_caption_retrieval(owners)
    assert chance["R@1"] == pytest.approx(np.mean([rank == 1 for rank in first]))
    assert (chance["R@5"], chance["R@10"]) == (1.0, 1.0)
    assert chance["median_rank"] == sorted(first)[len(first) // 2 - 1], "the first rank that half of the orders reach"
