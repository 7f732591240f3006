"""Ranks of images, compared with sorting in a loop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.metrics.retrieval_scores import ranks, retrieval_scores


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
