"""BLEU of single captions as a reward, compared with nltk's smoothed sentence BLEU."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

from captioner.errors import DataError
from captioner.metrics import BleuReward

caption = st.lists(st.integers(0, 6), min_size=1, max_size=9)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_equals_nltk_s_sentence_bleu_with_add_one_smoothing(data: st.DataObject) -> None:
    references = data.draw(st.lists(st.lists(caption, min_size=1, max_size=4), min_size=1, max_size=4))
    images = data.draw(st.lists(st.integers(0, len(references) - 1), min_size=1, max_size=8))
    hypotheses = data.draw(st.lists(caption, min_size=len(images), max_size=len(images)))
    expected = [
        sentence_bleu(references[image], words, smoothing_function=SmoothingFunction().method2)
        for image, words in zip(images, hypotheses, strict=True)
    ]
    assert BleuReward(dict(enumerate(references)))(images, hypotheses) == pytest.approx(expected, abs=1e-8)


def test_an_empty_caption_scores_0_and_a_perfect_one_1() -> None:
    reward = BleuReward({0: [[3, 4, 5, 6, 7], [3]], 1: [[8, 9]]})
    assert reward([0, 0, 1], [[], [3, 4, 5, 6, 7], [4, 5]]) == pytest.approx([0, 1, 0], abs=1e-9)
    assert reward([], []).shape == (0,)


def test_a_longer_match_scores_higher() -> None:
    rewards = BleuReward({0: [[1, 2, 3, 4, 5, 6]]})(
        [0] * 3, [[1, 3, 2, 5, 4, 6], [1, 2, 3, 6, 5, 4], [1, 2, 3, 4, 5, 6]]
    )
    assert rewards[0] < rewards[1] < rewards[2]


def test_images_without_references_are_named() -> None:
    reward = BleuReward({7: [[1]], 8: []})
    with pytest.raises(DataError, match="2 images have no references to compute a reward from: 8, 9"):
        reward([7, 8, 9], [[1], [1], [1]])
    with pytest.raises(DataError, match="1 hypotheses for 2 image ids"):
        reward([7, 7], [[1]])
