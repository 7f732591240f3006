"""The hypotheses of a search → a caption with its alternatives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from captioner.data.images.decode import ImageSource
from captioner.decode.hypothesis import Hypothesis
from captioner.generated_caption import Caption
from captioner.text.tokenizers import Tokenizer
from captioner.text.vocabulary import Vocabulary


def to_caption(
    hypotheses: Sequence[Hypothesis],
    vocabulary: Vocabulary,
    tokenizer: Tokenizer,
    attention_maps: Callable[[Any], np.ndarray],
    *,
    image: ImageSource | None,
    stretch: str,
    resize: str,
    boxes: np.ndarray | None = None,
) -> Caption:
    """The best hypothesis as a caption, the others as its alternatives.

    attention_maps: weights (T, P), as the search returns them → maps (T, rows, columns). The other arguments are fields
    of `Caption`.
    """

    def convert(one: Hypothesis) -> Caption:
        tokens = tuple(vocabulary.decode_caption(one.tokens))
        return Caption(
            tokenizer.join(tokens),
            tokens,
            one.log_prob,
            one.score,
            one.finished,
            attention=None if one.attention is None else attention_maps(one.attention),
            image=image,
            stretch=stretch,
            resize=resize,
            boxes=boxes,
        )

    best, *others = map(convert, hypotheses)
    return replace(best, alternatives=tuple(others))
