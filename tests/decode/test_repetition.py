"""The repetition penalty: greedy search by its definition, beam search by brute force."""

from __future__ import annotations

import itertools
import math

import pytest

from captioner.config import DecodeConfig
from captioner.decode import search
from captioner.text.vocabulary import SPECIAL_TOKENS
from tests.decode.decoders import END, TinyDecoder, assert_same, make_features, one_image, score_caption


def value(decoder: TinyDecoder, features: object, words: tuple[int, ...], finished: bool, theta: float) -> float:
    """Σ ln p(token), each repeated word's times θ."""
    total, before = 0.0, 0.0
    parts = [(words[: i + 1], False) for i in range(len(words))] + [(words, True)] * finished
    for part, ends in parts:
        after = score_caption(decoder, features, part, ends).log_prob  # type: ignore[arg-type]
        total += (after - before) * (theta if not ends and part[-1] in part[:-1] else 1.0)
        before = after
    return total


@pytest.mark.parametrize("theta", [1.0, 1.5, 20.0])
def test_a_beam_wide_enough_is_brute_force(theta: float) -> None:
    decoder, features = TinyDecoder(words=3, seed=4), make_features(2)
    config = DecodeConfig(beam_width=200, max_length=4, repetition_penalty=theta, length_penalty=0.5)
    every = [words for n in range(5) for words in itertools.product((4, 5, 6), repeat=n)]
    for image, (best, *_) in enumerate(search(decoder, features, config, SPECIAL_TOKENS)):
        own = one_image(features, image)
        scores = {words: value(decoder, own, words, True, theta) / math.sqrt(len(words) + 1) for words in every}
        assert best.tokens == max(scores, key=lambda words: scores[words])
        assert best.score == pytest.approx(scores[best.tokens], abs=1e-10)
        assert best.log_prob == pytest.approx(score_caption(decoder, own, best.tokens, True).log_prob, abs=1e-10)


@pytest.mark.parametrize("theta", [1.2, 3.0])
def test_greedy_search_is_a_beam_of_width_1_and_its_definition(theta: float) -> None:
    decoder, features = TinyDecoder(words=5, end_bias=-6.0), make_features(8)
    settings = {"max_length": 9, "repetition_penalty": theta}
    greedy = search(decoder, features, DecodeConfig(name="greedy", **settings), SPECIAL_TOKENS)  # type: ignore[arg-type]
    narrow = search(decoder, features, DecodeConfig(beam_width=1, **settings), SPECIAL_TOKENS)  # type: ignore[arg-type]
    plain = search(decoder, features, DecodeConfig(name="greedy", max_length=9), SPECIAL_TOKENS)
    assert [one.tokens for (one,) in greedy] != [one.tokens for (one,) in plain], "else this test shows nothing"
    for image, ((one,), (other,)) in enumerate(zip(greedy, narrow, strict=True)):
        assert_same(one, other)
        words: tuple[int, ...] = ()
        own = one_image(features, image)
        while len(words) < 9:
            options = {w: value(decoder, own, (*words, w), False, theta) for w in range(4, 9)}
            options[END] = value(decoder, own, words, True, theta)
            best = max(options, key=lambda token: options[token])
            if best == END:
                break
            words = (*words, best)
        assert one.tokens == words
