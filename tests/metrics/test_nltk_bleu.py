"""nltk's BLEU differs from COCO's for the reasons that its module gives."""

from __future__ import annotations

import warnings

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from captioner.metrics import score_tokens

words = st.lists(st.sampled_from("abc"), min_size=4, max_size=12)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(words, st.lists(words, min_size=1, max_size=3)), min_size=1, max_size=5))
def test_equal_without_short_captions(images: list[tuple[list[str], list[list[str]]]]) -> None:
    hypotheses, references = [image[0] for image in images], [image[1] for image in images]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nltk warns where no 4-gram matches
        scores = score_tokens(hypotheses, references, names=["Bleu", "Bleu_nltk"]).corpus
    assume(scores["Bleu_4"] > 0.01)
    assert scores["Bleu_4 (nltk)"] == pytest.approx(scores["Bleu_4"], abs=1e-6)


def test_captions_shorter_than_n_words_make_the_difference() -> None:
    hypotheses, references = [list("abcdef"), ["a"]], [[list("abcdef")], [["a"]]]
    scores = score_tokens(hypotheses, references, names=["Bleu", "Bleu_nltk"]).corpus
    assert scores["Bleu_4"] == pytest.approx(1.0)
    assert scores["Bleu_4 (nltk)"] == pytest.approx((5 / 6 * 4 / 5 * 3 / 4) ** 0.25)
