"""Greedy search: the most probable word at each step."""

from __future__ import annotations

import pytest
import torch

from captioner.config import DecodeConfig
from captioner.decode.beam import beam
from captioner.decode.greedy import greedy
from captioner.text.vocabulary import SPECIAL_TOKENS
from tests.decode.decoders import END, TinyDecoder, assert_same, make_features, one_image, same_logits


@pytest.mark.parametrize("seed", range(2))
def test_each_word_is_the_most_probable(seed: int) -> None:
    decoder, features = TinyDecoder(words=15, seed=seed), make_features(5, seed)
    for image, found in enumerate(greedy(decoder, features, DecodeConfig(name="greedy"), SPECIAL_TOKENS)):
        state = decoder.init_state(one_image(features, image))
        previous = SPECIAL_TOKENS.start
        for token in (*found.tokens, END) if found.finished else found.tokens:
            logits, state, _ = decoder.step(torch.tensor([previous]), state)
            allowed = logits[0, [END, *range(4, 19)]]
            assert logits[0, token] == allowed.max()
            previous = token


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"length_penalty": 1.0},
        {"min_length": 4, "no_repeat_ngram": 2},
        {"max_length": 3, "allow_unknown": True},
        {"max_length": 1},
    ],
    ids=str,
)
def test_a_beam_of_one_is_greedy_search(seed: int, settings: dict[str, float]) -> None:
    decoder, features = TinyDecoder(words=15, seed=seed, end_bias=1.0), make_features(8, seed)
    config = DecodeConfig(beam_width=1, **settings)  # type: ignore[arg-type]
    one_by_one = greedy(decoder, features, config, SPECIAL_TOKENS)
    for one, (other,) in zip(one_by_one, beam(decoder, features, config, SPECIAL_TOKENS), strict=True):
        assert_same(one, other)


def test_among_equal_tokens_the_lowest_id_is_taken() -> None:
    config = DecodeConfig(name="greedy", max_length=3)
    (found,) = greedy(same_logits([0.0, 0.0, -1.0, 0.0, -2.0, 1.0, 1.0]), make_features(1), config, SPECIAL_TOKENS)
    assert found.tokens == (5, 5, 5)
