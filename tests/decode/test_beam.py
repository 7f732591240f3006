"""Beam search against brute force and against a simple reference implementation."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from captioner.config import DecodeConfig
from captioner.decode.beam import beam
from captioner.errors import ConfigError
from captioner.text.vocabulary import SPECIAL_TOKENS
from tests.decode.decoders import (
    CaptionScores,
    TableDecoder,
    TinyDecoder,
    all_captions,
    make_features,
    one_image,
    reference_beam,
    same_logits,
)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"length_penalty": 1.0},
        {"length_penalty": 2.5, "min_length": 1},
        {"no_repeat_ngram": 1},
        {"no_repeat_ngram": 2, "min_length": 2, "length_penalty": 0.6},
        {"allow_unknown": True, "max_length": 3},
    ],
    ids=str,
)
def test_a_beam_wide_enough_is_brute_force(seed: int, settings: dict[str, float]) -> None:
    words, features = 3, make_features(2, seed)
    decoder = TinyDecoder(words, seed)
    config = DecodeConfig(**{"max_length": 4, "beam_width": 500, **settings})  # type: ignore[arg-type]
    everything = beam(decoder, features, config, SPECIAL_TOKENS, n_best=500)
    for image, found in enumerate(everything):
        scores, of_image = {}, CaptionScores(decoder, one_image(features, image))
        for caption in all_captions(4 + words, config):
            log_prob = of_image.score(caption, finished=True).log_prob
            scores[caption] = log_prob / (len(caption) + 1) ** config.length_penalty
        expected = sorted(scores, key=lambda caption: -scores[caption])
        finished = [one for one in found if one.finished]
        assert [one.tokens for one in finished] == expected
        assert [one.score for one in finished] == pytest.approx([scores[caption] for caption in expected], abs=1e-10)
        assert found[: len(finished)] == finished, "unfinished hypotheses come last"


SETTINGS = [
    {},
    {"length_penalty": 0.7},
    {"length_penalty": 1.0, "min_length": 3},
    {"length_penalty": 2.0, "no_repeat_ngram": 2},
    {"no_repeat_ngram": 1, "min_length": 2},
    {"max_length": 2, "allow_unknown": True},
]


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("width", [1, 2, 3, 5])
def test_stopping_early_and_batching_change_nothing(width: int, settings: dict[str, float], seed: int) -> None:
    """The reference searches one image, without early stopping, until all its places are finished."""
    words, features = 5, make_features(6, seed)
    decoder = TinyDecoder(words, seed, end_bias=0.5)
    config = DecodeConfig(**{"max_length": 6, "beam_width": width, **settings})  # type: ignore[arg-type]
    expected = [reference_beam(decoder, one_image(features, image), config, 4 + words) for image in range(6)]
    for n_best in range(1, width + 1):
        for found, reference in zip(beam(decoder, features, config, SPECIAL_TOKENS, n_best), expected, strict=True):
            assert [(one.tokens, one.finished) for one in found] == [one[:2] for one in reference[:n_best]]
            assert [one.score for one in found] == pytest.approx([one[2] for one in reference[:n_best]], abs=1e-10)


@pytest.mark.parametrize(("penalty", "steps"), [(0.0, 1), (1.0, 5)])
def test_it_stops_at_the_first_step_where_nothing_open_can_win(penalty: float, steps: int) -> None:
    """At every step <END> has probability 0.6, word 4 has 0.3, word 5 has 0.1; the empty caption wins.

    After t steps the most probable open hypothesis has t ln 0.3, and at best becomes 10 tokens long: with a
    penalty of 1 it can no longer win once t ln 0.3 / 10 <= ln 0.6, that is from t = 4.24 on; without, at once.
    """
    decoder = same_logits([math.log(p) for p in (1e-30, 1e-30, 0.6, 1e-30, 0.3, 0.1)])
    config = DecodeConfig(beam_width=100, max_length=9, length_penalty=penalty)
    (found,) = beam(decoder, make_features(1), config, SPECIAL_TOKENS)
    assert found[0].tokens == ()
    assert decoder.steps == steps


def test_finished_images_are_removed_from_the_batch() -> None:
    decoder, features = TinyDecoder(words=10, end_bias=1.0), make_features(40)
    beam(decoder, features, DecodeConfig(max_length=15), SPECIAL_TOKENS)
    together, alone = list(decoder.batches), []
    for image in range(40):
        decoder.batches.clear()
        beam(decoder, one_image(features, image), DecodeConfig(max_length=15), SPECIAL_TOKENS)
        alone.append(len(decoder.batches))
    assert together == [sum(steps > step for steps in alone) for step in range(max(alone))]


def test_asking_for_all_fills_the_beam_with_finished_captions() -> None:
    config = DecodeConfig(beam_width=4, max_length=30)
    decoder = TinyDecoder(words=10, end_bias=4.0, sharpness=0.5)
    for found in beam(decoder, make_features(10), config, SPECIAL_TOKENS, n_best=4):
        assert len({one.tokens for one in found}) == 4
        assert all(one.finished for one in found)
        assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)


def test_an_unfinished_caption_never_wins_over_a_finished_one() -> None:
    table = torch.full((6, 6), -40.0, dtype=torch.float64)
    table[:, 4] = 0.0  # 4 4 4 … is almost certain and never ends
    table[:, 2] = -5.0
    config = DecodeConfig(beam_width=2, max_length=3)
    (found,) = beam(TableDecoder(table), make_features(1), config, SPECIAL_TOKENS, n_best=2)
    assert [(one.tokens, one.finished) for one in found] == [((), True), ((4, 4, 4), False)]


def test_among_equal_captions_the_lowest_token_ids_win() -> None:
    config = DecodeConfig(beam_width=3, min_length=2, max_length=2, no_repeat_ngram=1)
    (found,) = beam(same_logits([0.0] * 40), make_features(1), config, SPECIAL_TOKENS, n_best=3)
    assert [(one.tokens, one.finished) for one in found] == [((4, 5), True), ((4, 6), False), ((4, 7), False)]


@pytest.mark.parametrize("n_best", [0, -1])
def test_fewer_than_one_hypothesis_is_an_error(n_best: int) -> None:
    with pytest.raises(ConfigError, match=f"n_best={n_best}"):
        beam(TinyDecoder(words=3), make_features(1), DecodeConfig(), SPECIAL_TOKENS, n_best)


def test_a_beam_has_at_most_as_many_captions_as_exist() -> None:
    config = replace(DecodeConfig(), beam_width=50, max_length=2)
    (found,) = beam(TinyDecoder(words=1), make_features(1), config, SPECIAL_TOKENS, n_best=50)
    assert {one.tokens for one in found} == {(), (4,), (4, 4)}
