"""Grounding compared with counting pixels of boxes and regions on a fine grid."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.errors import DataError
from captioner.metrics.grounding_scores import ObjectWord, coverage, format_grounding, grounding

ROWS, COLUMNS, FINE = 3, 4, 60  # 60 pixels a side: every region and every box is a whole number of pixels
sides = st.integers(0, FINE - 1).flatmap(lambda low: st.tuples(st.just(low), st.integers(low + 1, FINE)))
boxes_of_sides = st.tuples(sides, sides).map(lambda s: (s[0][0], s[1][0], s[0][1], s[1][1]))
BOXES = st.lists(boxes_of_sides, min_size=1, max_size=4)  # left, top, right, bottom


def pixels_inside(boxes: list[tuple[int, int, int, int]]) -> np.ndarray:
    inside = np.zeros((FINE, FINE), dtype=bool)
    for left, top, right, bottom in boxes:
        for row in range(top, bottom):
            for column in range(left, right):
                inside[row, column] = True
    return inside


def share_by_pixels(attention: np.ndarray, boxes: list[tuple[int, int, int, int]]) -> float:
    """Spread the weight of each region over its pixels, and sum those inside the boxes."""
    height, width = FINE // ROWS, FINE // COLUMNS
    total = 0.0
    for row, column in np.argwhere(pixels_inside(boxes)):
        total += attention[row // height, column // width] / (height * width)
    return total


def fractions(boxes: list[tuple[int, int, int, int]]) -> np.ndarray:
    return np.array(boxes) / FINE


@given(boxes=BOXES, seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_a_box_receives_the_share_of_a_region_that_it_covers(boxes: list[tuple[int, int, int, int]], seed: int) -> None:
    attention = np.random.default_rng(seed).dirichlet(np.ones(ROWS * COLUMNS)).reshape(ROWS, COLUMNS)
    covered = coverage(fractions(boxes), ROWS, COLUMNS)
    assert covered.min() >= 0
    assert covered.max() <= 1 + 1e-12
    assert float((covered * attention).sum()) == pytest.approx(share_by_pixels(attention, boxes), abs=1e-12)
    assert float(covered.mean()) == pytest.approx(pixels_inside(boxes).mean(), abs=1e-12)


@given(st.lists(st.tuples(*[st.floats(-0.5, 1.5)] * 4), min_size=1, max_size=3), st.integers(1, 9), st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_coverage_is_between_0_and_1(boxes: list[tuple[float, ...]], rows: int, columns: int) -> None:
    covered = coverage(np.array(boxes), rows, columns)
    assert covered.shape == (rows, columns)
    assert covered.min() >= 0
    assert covered.max() <= 1 + 1e-9


def words(seed: int, scale: float = 1.0) -> tuple[list[ObjectWord], list[list[tuple[int, int, int, int]]]]:
    """Seven words of four images."""
    generator = np.random.default_rng(seed)
    found, all_boxes = [], []
    for image_id in (5, 5, 7, 7, 7, "seven", 9):
        left, top = generator.integers(0, FINE - 1, 2)
        boxes = [(left, top, generator.integers(left + 1, FINE + 1), generator.integers(top + 1, FINE + 1))]
        attention = scale * generator.dirichlet(np.ones(ROWS * COLUMNS)).reshape(ROWS, COLUMNS)
        found.append(ObjectWord(image_id, "cat" if image_id == 7 else "dog", attention, fractions(boxes)))
        all_boxes.append(boxes)
    return found, all_boxes


def test_the_three_scores_are_their_definitions() -> None:
    object_words, boxes = words(0)
    found = grounding(object_words, without_box=3)
    inside = [share_by_pixels(word.attention, of_word) for word, of_word in zip(object_words, boxes, strict=True)]
    area = [pixels_inside(of_word).mean() for of_word in boxes]
    chance = []
    for word, of_word in zip(object_words, boxes, strict=True):
        others = [other.attention for other in object_words if other.image_id != word.image_id]
        chance.append(np.mean([share_by_pixels(other, of_word) for other in others]))
    assert found.attention.value == pytest.approx(np.mean(inside), abs=1e-12)
    assert found.uniform.value == pytest.approx(np.mean(area), abs=1e-12)
    assert found.chance.value == pytest.approx(np.mean(chance), abs=1e-12)
    assert (found.words, found.images, found.without_box) == (7, 4, 3)
    assert [(one.label, one.words) for one in found.by_label] == [("dog", 4), ("cat", 3)]
    assert found.by_label[1].attention == pytest.approx(np.mean(inside[2:5]), abs=1e-12)
    for score in found.scores.values():
        assert score.low < score.value < score.high


def test_intervals_come_from_resampling_images() -> None:
    """Compared with sampling images with replacement and averaging over all of their words."""
    object_words, boxes = words(1)
    inside = np.array(
        [share_by_pixels(word.attention, of_word) for word, of_word in zip(object_words, boxes, strict=True)]
    )
    of_image = [[0, 1], [2, 3, 4], [6], [5]]  # in the order 5, 7, 9, "seven"
    means = []
    for images in np.random.default_rng(3).integers(4, size=(100, 4)):
        means.append(inside[[word for image in images for word in of_image[image]]].mean())
    found = grounding(object_words, samples=100, seed=3)
    low, high = np.percentile(means, [2.5, 97.5])
    assert (found.attention.low, found.attention.high) == pytest.approx((low, high), abs=1e-12)


def test_uniform_attention_scores_the_uniform_baseline() -> None:
    object_words, _ = words(2)
    even = [ObjectWord(w.image_id, w.label, np.full((ROWS, COLUMNS), 1 / 12), w.boxes) for w in object_words]
    found = grounding(even)
    assert found.attention.value == pytest.approx(found.uniform.value, abs=1e-12)
    assert found.chance.value == pytest.approx(found.uniform.value, abs=1e-12)


def test_attention_on_the_object_scores_1() -> None:
    attention = np.zeros((ROWS, COLUMNS))
    attention[1, 2] = 1.0
    boxes = np.array([[0.5, 1 / 3, 0.75, 2 / 3]])
    elsewhere = ObjectWord(2, "dog", np.full((ROWS, COLUMNS), 1 / 12), boxes)
    found = grounding([ObjectWord(1, "dog", attention, boxes), elsewhere])
    assert found.attention.value == pytest.approx((1 + 1 / 12) / 2)


def test_attention_on_the_sentinel_is_normalized_away_and_reported() -> None:
    full, away = grounding(words(4)[0]), grounding(words(4, scale=0.25)[0])
    assert away.attention.value == pytest.approx(full.attention.value, abs=1e-12)
    assert (full.image_share, away.image_share) == (pytest.approx(1.0), pytest.approx(0.25))
    assert "sentinel" in format_grounding(away)
    assert "sentinel" not in format_grounding(full)


def test_one_image_is_an_error() -> None:
    with pytest.raises(DataError, match=r"two images or more: there are 2 in 1 \(6 more"):
        grounding(words(0)[0][:2], without_box=6)
    with pytest.raises(DataError, match="there are 0 in 0"):
        grounding([])
