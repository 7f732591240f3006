"""The reward is CIDEr-D with given document frequencies: compared with the score of a set and the equation."""

from __future__ import annotations

import math
import pickle
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.errors import DataError
from captioner.metrics import CiderReward, DocumentFrequencies, score_tokens

Ids = Sequence[int]
caption = st.lists(st.integers(0, 6), max_size=9)
corpora = st.lists(st.lists(caption, min_size=1, max_size=4), min_size=1, max_size=5)


def ngrams_of(ids: Ids, n: int) -> Counter[tuple[int, ...]]:
    return Counter(tuple(ids[i : i + n]) for i in range(len(ids) - n + 1))


def equation(hypothesis: Ids, references: Sequence[Ids], corpus: Sequence[Sequence[Ids]]) -> float:
    """CIDEr-D (Vedantam et al. 2015) with document frequencies counted over `corpus`."""
    total = 0.0
    for n in range(1, 5):
        in_images = [set().union(*(ngrams_of(ids, n) for ids in captions)) for captions in corpus]
        for reference in references:
            weights = {
                gram: math.log(len(corpus)) - math.log(max(1, sum(gram in image for image in in_images)))
                for gram in ngrams_of(hypothesis, n) | ngrams_of(reference, n)
            }
            ours = {gram: count * weights[gram] for gram, count in ngrams_of(hypothesis, n).items()}
            theirs = {gram: count * weights[gram] for gram, count in ngrams_of(reference, n).items()}
            norms = math.hypot(*ours.values()) * math.hypot(*theirs.values())
            if norms > 0:
                product = sum(min(ours[gram], theirs[gram]) * theirs[gram] for gram in ours.keys() & theirs.keys())
                difference = max(0, len(hypothesis) - 1) - max(0, len(reference) - 1)
                total += product / norms * math.exp(-(difference**2) / 72)
    return 10 * total / 4 / len(references)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_equation_with_references_in_and_outside_the_corpus(data: st.DataObject) -> None:
    corpus, references = data.draw(corpora), data.draw(corpora)
    image_ids = data.draw(st.lists(st.integers(0, len(references) - 1), min_size=1, max_size=8))
    hypotheses = data.draw(st.lists(caption, min_size=len(image_ids), max_size=len(image_ids)))
    reward = CiderReward(DocumentFrequencies.from_references(corpus), dict(enumerate(references)))
    expected = [
        equation(hypothesis, references[image_id], corpus)
        for image_id, hypothesis in zip(image_ids, hypotheses, strict=True)
    ]
    assert reward(image_ids, hypotheses) == pytest.approx(expected, abs=1e-9), "cold"
    assert reward(image_ids, hypotheses) == pytest.approx(expected, abs=1e-9), "warm"


@settings(max_examples=40, deadline=None)
@given(corpora)
def test_with_the_frequencies_of_the_set_it_equals_the_score(references: list[list[Ids]]) -> None:
    hypotheses = [captions[0][::-1] for captions in references]
    reward = CiderReward(DocumentFrequencies.from_references(references), dict(enumerate(references)))
    words = [[str(token) for token in ids] for ids in hypotheses]
    words_of_references = [[[str(token) for token in ids] for ids in captions] for captions in references]
    expected = score_tokens(words, words_of_references).per_image["CIDEr"]
    np.testing.assert_allclose(reward(list(range(len(references))), hypotheses), expected, atol=1e-12)


@pytest.fixture
def reward() -> CiderReward:
    generator = np.random.default_rng(0)
    references = {
        f"photo{index}": [generator.integers(40, size=8).tolist() for _ in range(1 + index % 5)] for index in range(30)
    }
    return CiderReward(DocumentFrequencies.from_references(references.values()), references)


def test_rewards_do_not_depend_on_the_batch(reward: CiderReward) -> None:
    """Single captions, one batch, any order, after other batches: equal bytes."""
    generator = np.random.default_rng(1)
    image_ids = [f"photo{index}" for index in generator.integers(30, size=60)]
    hypotheses = [generator.integers(40, size=size).tolist() for size in generator.integers(0, 12, size=60)]
    together = reward(image_ids, hypotheses)
    apart = [reward([image_id], [hypothesis])[0] for image_id, hypothesis in zip(image_ids, hypotheses, strict=True)]
    assert together.max() > 0.1
    np.testing.assert_allclose(together, apart, rtol=0, atol=1e-14)
    backwards = CiderReward(reward.frequencies, reward.references)(image_ids[::-1], hypotheses[::-1])[::-1]
    np.testing.assert_allclose(together, backwards, rtol=0, atol=1e-14)


def test_a_pickled_copy_gives_equal_rewards(reward: CiderReward) -> None:
    image_ids, hypotheses = ["photo1", "photo2"], [reward.references["photo1"][0], [1, 2, 3]]
    before = reward(image_ids, hypotheses)
    copy = pickle.loads(pickle.dumps(reward))
    np.testing.assert_array_equal(copy(image_ids, hypotheses), before)


def test_captions_may_be_arrays(reward: CiderReward) -> None:
    ids = reward.references["photo1"][0]
    np.testing.assert_array_equal(reward(["photo1"], [np.array(ids)]), reward(["photo1"], [ids]))


def test_an_empty_batch(reward: CiderReward) -> None:
    assert reward([], []).shape == (0,)


def test_invalid_input_is_named(reward: CiderReward) -> None:
    with pytest.raises(DataError, match=r"1 images have no references .*'elsewhere'"):
        reward(["photo1", "elsewhere"], [[1], [2]])
    with pytest.raises(DataError, match="2 hypotheses for 1 image ids"):
        reward(["photo1"], [[1], [2]])
    with pytest.raises(DataError, match="expected ids from 0"):
        reward(["photo1"], [[-1]])
