"""`mask_forbidden_tokens` against its definition, word by word."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from captioner.config import DecodeConfig
from captioner.decode.constraints import mask_forbidden_tokens, repeating_tokens
from captioner.decode.hypothesis import PartialHypothesis
from captioner.text.vocabulary import SPECIAL_TOKENS
from tests.decode.decoders import END, repeats_an_ngram


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_repeating_tokens_would_complete_an_ngram_twice(n: int) -> None:
    for length in range(6):
        for words in itertools.product((0, 1, 2), repeat=length):
            if not repeats_an_ngram(words, n):
                assert repeating_tokens(words, n) == {w for w in range(4) if repeats_an_ngram((*words, w), n)}


def allowed(rows: list[tuple[int, ...]], **settings: int) -> list[set[int]]:
    logits = torch.zeros(len(rows), 8)
    mask_forbidden_tokens(
        logits, [PartialHypothesis(words) for words in rows], DecodeConfig(**settings), SPECIAL_TOKENS
    )
    return [{int(word) for word in (row > -math.inf).nonzero()} for row in logits]


def test_special_tokens() -> None:
    assert allowed([()]) == [{END, 4, 5, 6, 7}]
    assert allowed([()], allow_unknown=True) == [{END, 3, 4, 5, 6, 7}]


def test_end_only_after_min_length_words() -> None:
    assert allowed([(4,)], min_length=2) == [{4, 5, 6, 7}]
    assert allowed([(4, 5)], min_length=2) == [{END, 4, 5, 6, 7}]


def test_each_row_by_its_own_words() -> None:
    assert allowed([(4, 5, 4), (6, 6, 7)], no_repeat_ngram=2) == [{END, 4, 6, 7}, {END, 4, 5, 6, 7}]


def test_end_is_allowed_before_min_length_in_the_rows_that_have_nothing_else() -> None:
    assert allowed([(4, 5, 6, 7), (4, 5, 6, 6)], no_repeat_ngram=1, min_length=9) == [{END}, {7}]
