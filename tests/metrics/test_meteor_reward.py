"""METEOR of single captions as a reward: the metric's score of each caption."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.config import TokenizerConfig
from captioner.errors import DataError
from captioner.metrics import score
from captioner.metrics.meteor.meteor import Meteor
from captioner.metrics.meteor.meteor_metric import evaluate, shared_meteor
from captioner.metrics.meteor_reward import MeteorReward
from captioner.text import build_tokenizer
from tests.metrics.meteor.small import WORDS, small_meteor

ids = st.lists(st.integers(0, len(WORDS) - 1), max_size=9)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Meteor:
    return small_meteor(tmp_path_factory.mktemp("meteor"))


def words_of(token_ids: Sequence[int]) -> list[str]:
    return [WORDS[token] for token in token_ids]


def text(token_ids: Sequence[int]) -> str:
    return " ".join(words_of(token_ids))


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_equals_the_metric_for_each_caption(small: Meteor, data: st.DataObject) -> None:
    references = data.draw(st.lists(st.lists(ids, min_size=1, max_size=4), min_size=1, max_size=4))
    images = data.draw(st.lists(st.integers(0, len(references) - 1), min_size=1, max_size=8))
    hypotheses = data.draw(st.lists(ids, min_size=len(images), max_size=len(images)))
    texts = {image: list(map(text, captions)) for image, captions in enumerate(references)}
    reward = MeteorReward(small, texts, words_of)
    statistics = small.statistics(list(map(text, hypotheses)), [texts[image] for image in images])
    expected = evaluate(statistics)[0]
    np.testing.assert_array_equal(reward(images, hypotheses), expected)
    np.testing.assert_array_equal(reward(images, hypotheses), expected)  # with cached references
    for image, hypothesis, value in zip(images, hypotheses, expected, strict=True):
        assert reward([image], [hypothesis]) == pytest.approx([value], abs=0)


def test_references_are_encoded_once(small: Meteor, monkeypatch: pytest.MonkeyPatch) -> None:
    reward = MeteorReward(small, {0: ["the cat", "a dog"]}, words_of)
    first = reward([0, 0], [[0, 2], [4]])
    seen: list[list[str]] = []
    encode = small.lexicon.encode
    monkeypatch.setattr(small.lexicon, "encode", lambda captions: seen.append(list(captions)) or encode(captions))
    np.testing.assert_array_equal(reward([0, 0, 0], [[0, 2], [4], [0, 2]]), [*first, first[0]])
    assert seen == [["the cat", "dog"]]


def test_an_empty_caption_scores_0_and_a_perfect_one_1(small: Meteor) -> None:
    reward = MeteorReward(small, {0: ["the cat of dogs", "dog"]}, words_of)
    assert reward([0, 0, 0], [[], [4], [0, 2, 1, 5]]).tolist() == [0, 1, 1]
    assert reward([], []).shape == (0,)


def test_images_without_references_are_named(small: Meteor) -> None:
    reward = MeteorReward(small, {7: ["cat"], 8: []}, words_of)
    with pytest.raises(DataError, match="2 images have no references to compute a reward from: 8, 9"):
        reward([7, 8, 9], [[1], [1], [1]])
    with pytest.raises(DataError, match="1 hypotheses for 2 image ids"):
        reward([7, 7], [[1]])


@pytest.mark.slow  # makes the index of paraphrases where there is none
def test_equals_the_scores_of_real_captions(real_data: Path) -> None:
    pytest.importorskip("pycocoevalcap")
    lines = (real_data / "flickr8k/Flickr8k.token.txt").read_text("utf-8").splitlines()[:500]
    groups = [[line.split("\t")[1] for line in lines[start : start + 5]] for start in range(0, 500, 5)]
    tokenize = build_tokenizer(TokenizerConfig()).tokenize_all
    tokenized = [tokenize(group) for group in groups]
    words = sorted({word for group in tokenized for tokens in group for word in tokens})
    number = {word: index for index, word in enumerate(words)}
    references = {image: [" ".join(tokens) for tokens in group[1:]] for image, group in enumerate(tokenized)}
    reward = MeteorReward(shared_meteor(), references, lambda token_ids: [words[token] for token in token_ids])
    found = reward(list(references), [[number[word] for word in group[0]] for group in tokenized])
    expected = score(
        {image: group[0] for image, group in enumerate(groups)},
        {image: group[1:] for image, group in enumerate(groups)},
        names=["METEOR"],
    ).per_image
    np.testing.assert_allclose(found, [scores["METEOR"] for scores in expected.values()], rtol=0, atol=1e-12)
