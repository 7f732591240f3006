"""Our BLEU, ROUGE-L and CIDEr-D are the official ones, to 1e-9, for the corpus and for every image."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from captioner.metrics import score_tokens
from tests.metrics.oracle import Tokens, official

pytest.importorskip("pycocoevalcap")

caption = st.lists(st.sampled_from(["a", "dog", "runs", "on", "grass", "\u7530", "\u00e9\u0301", "."]), max_size=12)
image = st.tuples(caption, st.lists(caption, min_size=1, max_size=6))


def assert_official(hypotheses: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> None:
    ours = score_tokens(hypotheses, references)
    corpus, per_image = official(hypotheses, references)
    assert ours.corpus == pytest.approx(corpus, abs=1e-9, rel=0)
    assert ours.per_image.keys() == per_image.keys()
    for name, values in per_image.items():
        assert ours.per_image[name] == pytest.approx(values, abs=1e-9, rel=0), name


@settings(max_examples=200, deadline=None)
@given(st.lists(image, min_size=1, max_size=8))
def test_generated_captions(images: list[tuple[list[str], list[list[str]]]]) -> None:
    assume(any(any(references) for _, references in images))  # the official CIDEr fails where all are empty
    assert_official([hypothesis for hypothesis, _ in images], [references for _, references in images])
