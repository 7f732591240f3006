"""Diverse beam search against its definition, written without a batch, a state, a bound or a top-k."""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import replace

import pytest

from captioner.config import DecodeConfig
from captioner.decode.beam import beam, diverse_beam
from captioner.errors import ConfigError
from captioner.text.vocabulary import SPECIAL_TOKENS
from tests.decode.decoders import (
    END,
    TinyDecoder,
    assert_same,
    is_allowed,
    make_features,
    one_image,
    score_caption,
)

Found = list[tuple[tuple[int, ...], bool, float]]


def by_definition(decoder: TinyDecoder, features: object, config: DecodeConfig, size: int) -> Found:
    """All captions of one image as (words, finished, score), best first, each once."""

    @functools.cache
    def log_prob(words: tuple[int, ...], finished: bool) -> float:
        return score_caption(decoder, features, words, finished).log_prob  # type: ignore[arg-type]

    @functools.cache
    def value(words: tuple[int, ...], finished: bool) -> float:
        """The sum of ln p, each repeated word's times the repetition penalty."""
        total, parts = 0.0, [*((words[: i + 1], False) for i in range(len(words))), *([(words, True)] * finished)]
        for part, ends in parts:
            before = part if ends else part[:-1]
            nats = log_prob(part, ends) - log_prob(before, False)
            repeated = not ends and part[-1] in before
            total += nats * (config.repetition_penalty if repeated else 1)
        return total

    places, longer = config.beam_width // config.groups, replace(config, max_length=config.max_length + 1)
    opened: list[list[tuple[tuple[int, ...], float]]] = [[((), 0.0)] for _ in range(config.groups)]
    ended: list[list[tuple[int, ...]]] = [[] for _ in range(config.groups)]
    for length in range(config.max_length + 1):
        chosen: Counter[int] = Counter()
        for group in range(config.groups):
            continuations = []
            for words, hamming in opened[group]:
                options = [(END, words, True)] if length >= config.min_length else []
                options += [(w, (*words, w), False) for w in range(size) if is_allowed((*words, w), longer)]
                for token, extended, ends in options:
                    total = hamming - config.diversity_penalty * chosen[token]
                    continuations.append((value(extended, ends) + total, token, words, extended, ends, total))
            continuations.sort(key=lambda one: -one[0])
            taken = continuations[: places - len(ended[group])]
            ended[group] += [extended for _, _, _, extended, ends, _ in taken if ends]
            if length < config.max_length:
                opened[group] = [(extended, total) for _, _, _, extended, ends, total in taken if not ends]
            else:
                finished_now = {words for _, _, words, _, ends, _ in taken if ends}
                opened[group] = [one for one in opened[group] if one[0] not in finished_now]
            chosen.update(token for _, token, *_ in taken)
    everything = {(words, True) for of_group in ended for words in of_group}
    everything |= {(words, False) for of_group in opened for words, _ in of_group}
    return sorted(
        (
            (words, ends, value(words, ends) / max(1, len(words) + ends) ** config.length_penalty)
            for words, ends in everything
        ),
        key=lambda one: (not one[1], -one[2]),
    )


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    "settings",
    [
        {"beam_width": 3, "groups": 3},
        {"beam_width": 4, "groups": 2, "diversity_penalty": 2.0},
        {"beam_width": 6, "groups": 3, "length_penalty": 1.0, "min_length": 2},
        {"beam_width": 4, "groups": 4, "diversity_penalty": 50.0, "no_repeat_ngram": 1},
        {"beam_width": 4, "groups": 2, "repetition_penalty": 1.7, "length_penalty": 0.5},
        {"beam_width": 3, "groups": 3, "max_length": 1, "allow_unknown": True},
    ],
    ids=str,
)
def test_it_is_its_definition_whatever_is_asked_for(settings: dict[str, float], seed: int) -> None:
    words, features = 4, make_features(4, seed)
    decoder = TinyDecoder(words, seed, end_bias=0.5, sharpness=1.0)
    config = DecodeConfig(**{"name": "diverse", "max_length": 5, **settings})  # type: ignore[arg-type]
    expected = [by_definition(decoder, one_image(features, image), config, 4 + words) for image in range(4)]
    for n_best in (1, 2, config.beam_width):
        for found, reference in zip(
            diverse_beam(decoder, features, config, SPECIAL_TOKENS, n_best), expected, strict=True
        ):
            assert [(one.tokens, one.finished) for one in found] == [one[:2] for one in reference[:n_best]]
            assert [one.score for one in found] == pytest.approx([one[2] for one in reference[:n_best]], abs=1e-10)


@pytest.mark.parametrize("penalty", [0.0, 3.0])
def test_one_group_is_beam_search(penalty: float) -> None:
    decoder, features = TinyDecoder(words=9, end_bias=0.5), make_features(6)
    config = DecodeConfig(name="diverse", beam_width=4, groups=1, diversity_penalty=penalty, max_length=8)
    for found, expected in zip(
        diverse_beam(decoder, features, config, SPECIAL_TOKENS, 4),
        beam(decoder, features, config, SPECIAL_TOKENS, 4),
        strict=True,
    ):
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)


def test_an_endless_penalty_gives_captions_that_share_no_word_at_a_position() -> None:
    decoder, features = TinyDecoder(words=9, end_bias=-30.0), make_features(5)
    config = DecodeConfig(name="diverse", beam_width=3, groups=3, diversity_penalty=1e300, max_length=5)
    for found in diverse_beam(decoder, features, config, SPECIAL_TOKENS, 3):
        assert len(found) == 3
        for words in zip(*(one.tokens for one in found), strict=True):
            assert len(set(words)) == 3


def test_without_a_penalty_the_groups_find_the_same_caption_which_is_returned_once() -> None:
    decoder, features = TinyDecoder(words=9), make_features(3)
    config = DecodeConfig(name="diverse", beam_width=3, groups=3, diversity_penalty=0.0)
    assert [len(found) for found in diverse_beam(decoder, features, config, SPECIAL_TOKENS, 3)] == [1, 1, 1]


def test_groups_of_unequal_width_are_an_error() -> None:
    with pytest.raises(ConfigError, match=r"groups=3 does not divide decode.beam_width=5"):
        DecodeConfig(name="diverse", beam_width=5, groups=3)
    DecodeConfig(name="beam", beam_width=5, groups=3)
    with pytest.raises(ConfigError, match="n_best=0"):
        diverse_beam(TinyDecoder(words=3), make_features(1), DecodeConfig(name="diverse"), SPECIAL_TOKENS, 0)
