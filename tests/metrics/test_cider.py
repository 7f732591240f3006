"""CIDEr-D and plain CIDEr, compared with their equations computed with dictionaries."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.metrics import score_tokens
from captioner.metrics.cider import SIGMA, inverse_document_frequency
from tests.metrics.oracle import Tokens

caption = st.lists(st.sampled_from("abcde"), max_size=9)
images = st.lists(st.tuples(caption, st.lists(caption, min_size=1, max_size=4)), min_size=1, max_size=6)


def ngrams_of(words: Tokens, n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def equation(hypotheses: Sequence[Tokens], references: Sequence[Sequence[Tokens]], deter_gaming: bool) -> list[float]:
    """Vedantam et al. 2015, equations 1 to 4; with the changes of section 7 for CIDEr-D."""
    scores = []
    for hypothesis, captions in zip(hypotheses, references, strict=True):
        total = 0.0
        for n in range(1, 5):
            frequency = Counter(
                gram for of_image in references for gram in set().union(*(ngrams_of(c, n) for c in of_image))
            )

            def vector(
                words: Tokens, n: int = n, frequency: Counter[tuple[str, ...]] = frequency
            ) -> dict[tuple[str, ...], float]:
                return {
                    gram: count * (math.log(len(references)) - math.log(max(1, frequency[gram])))
                    for gram, count in ngrams_of(words, n).items()
                }

            ours = vector(hypothesis)
            for reference in captions:
                theirs = vector(reference)
                norms = math.hypot(*ours.values()) * math.hypot(*theirs.values())
                if norms == 0:
                    continue
                clipped = {
                    gram: min(ours[gram], theirs[gram]) if deter_gaming else ours[gram]
                    for gram in ours.keys() & theirs.keys()
                }
                cosine = sum(clipped[gram] * theirs[gram] for gram in clipped) / norms
                bigrams = max(0, len(hypothesis) - 1) - max(0, len(reference) - 1)
                total += cosine * (math.exp(-(bigrams**2) / (2 * SIGMA**2)) if deter_gaming else 1.0)
        scores.append(10 * total / 4 / len(captions))
    return scores


@settings(max_examples=80, deadline=None)
@given(images)
def test_equations(pairs: list[tuple[list[str], list[list[str]]]]) -> None:
    hypotheses, references = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    scores = score_tokens(hypotheses, references, names=["CIDEr", "CIDEr_plain"])
    assert scores.per_image["CIDEr"] == pytest.approx(equation(hypotheses, references, True), abs=1e-9)
    assert scores.per_image["CIDEr_plain"] == pytest.approx(equation(hypotheses, references, False), abs=1e-9)
    assert scores.corpus["CIDEr"] == pytest.approx(float(np.mean(scores.per_image["CIDEr"])), abs=1e-12)
    for values in scores.per_image.values():
        assert values.min() >= 0
        assert values.max() <= 10 + 1e-9


def test_words_of_all_images_have_exactly_zero_weight() -> None:
    for images in range(1, 300):
        assert inverse_document_frequency(np.array([images]), images)[0] == 0.0


def test_a_single_image_scores_zero() -> None:
    assert score_tokens([["a", "dog"]], [[["a", "dog"]]]).corpus["CIDEr"] == 0.0


def test_plain_cider_rewards_repetition_and_cider_d_does_not() -> None:
    """The reason for clipping and the length penalty in CIDEr-D (section 7)."""
    references = [[["a", "dog", "runs"]], [["two", "cats", "sleep"]], [["red", "cars", "race"]]]
    honest = [["a", "dog"], ["two", "cats"], ["red", "cars"]]
    gaming = [["dog"] * 20, ["cats"] * 20, ["cars"] * 20]
    fair, unfair = (
        score_tokens(captions, references, names=["CIDEr", "CIDEr_plain"]).corpus for captions in (honest, gaming)
    )
    assert unfair["CIDEr"] < 0.05 * fair["CIDEr"]
    assert unfair["CIDEr_plain"] > 0.3 * fair["CIDEr_plain"]
