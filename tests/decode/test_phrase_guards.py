"""The settings against implausible phrases, in every search, and by brute force over all captions of a few words."""

from __future__ import annotations

import random
from functools import cache
from typing import Any

import pytest

from captioner.config import DecodeConfig
from captioner.decode import search
from captioner.errors import ConfigError
from captioner.text.phrases import DOUBLED, ENDING, UNSEEN, PhraseStatistics
from captioner.text.vocabulary import SPECIAL_TOKENS
from tests.decode.decoders import END, CaptionScores, TinyDecoder, all_captions, assert_same, make_features, one_image

WORDS = (4, 5, 6)
KIND_OF = {"no_unseen_phrase": UNSEEN, "no_doubled_phrase": DOUBLED, "no_bad_ending": ENDING}
GUARDS: list[dict[str, Any]] = [
    {"no_unseen_phrase": True},
    {"no_doubled_phrase": True},
    {"no_bad_ending": True},
    dict.fromkeys(KIND_OF, True),
    {"no_bad_ending": True, "no_repeat_ngram": 1, "min_length": 2},
]


@cache
def statistics() -> PhraseStatistics:
    """Of captions in which 4 never ends a caption, 6 never follows 5, and two words decide the third."""
    choose, captions = random.Random(0), []
    for _ in range(3000):
        caption = [choose.choice(WORDS)]
        while len(caption) < 6 and (caption[-1] == 4 or choose.random() < 0.7):
            odd = sum(caption[-2:]) % 2
            caption.append(choose.choice([(4, 6), (4, 5)][odd] if caption[-1] != 5 else [(4, 5), (4,)][odd]))
        captions.append(caption if caption[-1] != 4 else [*caption, 5])
    return PhraseStatistics.from_captions(captions, END)


@cache
def kinds(caption: tuple[int, ...]) -> frozenset[str]:
    return frozenset(phrase.kind for phrase in statistics().find(caption))


def test_the_statistics_forbid_some_captions_of_each_kind() -> None:
    found = [kinds(caption) for caption in all_captions(4 + len(WORDS), DecodeConfig(max_length=4))]
    for kind in KIND_OF.values():
        assert 0.05 < sum(kind in of_caption for of_caption in found) / len(found) < 0.95


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("penalty", [0.0, 0.8, 50.0])
@pytest.mark.parametrize("guards", [{}, *GUARDS], ids=str)
def test_a_beam_wide_enough_is_brute_force(guards: dict[str, Any], penalty: float, seed: int) -> None:
    features, decoder = make_features(1, seed), TinyDecoder(len(WORDS), seed)
    config = DecodeConfig(max_length=4, beam_width=500, length_penalty=0.5, implausible_penalty=penalty, **guards)
    forbidden = {kind for key, kind in KIND_OF.items() if guards.get(key)}
    scores, of_image = {}, CaptionScores(decoder, one_image(features, 0))
    for caption in all_captions(4 + len(WORDS), config):
        if not kinds(caption) & forbidden:
            log_prob = of_image.score(caption, finished=True).log_prob
            scores[caption] = log_prob / (len(caption) + 1) ** 0.5 - penalty * bool(kinds(caption))
    expected = sorted(scores, key=lambda caption: -scores[caption])
    (found,) = search(decoder, features, config, SPECIAL_TOKENS, n_best=500, phrases=statistics())
    finished = [one for one in found if one.finished]
    assert [one.tokens for one in finished] == expected
    assert [one.score for one in finished] == pytest.approx([scores[caption] for caption in expected], abs=1e-10)


@pytest.mark.parametrize("name", ["greedy", "sample", "beam"])
@pytest.mark.parametrize("guards", GUARDS, ids=str)
def test_an_image_gets_the_same_in_a_batch_as_alone_and_nothing_forbidden(guards: dict[str, Any], name: str) -> None:
    features, ids, changed = make_features(40), list(range(40)), 0
    config = DecodeConfig(name=name, max_length=8, implausible_penalty=0.3, **guards)
    for end_bias in (-2.0, 0.5, 2.0):  # long captions and short ones
        decoder = TinyDecoder(len(WORDS), end_bias=end_bias)
        together = search(decoder, features, config, SPECIAL_TOKENS, n_best=2, image_ids=ids, phrases=statistics())
        for image, found in enumerate(together):
            one = one_image(features, image)
            (alone,) = search(decoder, one, config, SPECIAL_TOKENS, n_best=2, image_ids=[image], phrases=statistics())
            for first, second in zip(found, alone, strict=True):
                assert_same(first, second)
            for key, kind in KIND_OF.items():
                if guards.get(key):
                    assert not any(kind in kinds(caption.tokens) for caption in found if caption.finished)
        free = search(decoder, features, DecodeConfig(name=name, max_length=8), SPECIAL_TOKENS, image_ids=ids)
        changed += [found[0].tokens for found in free] != [found[0].tokens for found in together]
    assert changed, "the guards should forbid something here"


@pytest.mark.parametrize("width", [1, 2, 4, 6])
@pytest.mark.parametrize("penalty", [0.05, 0.5, 9.0])
def test_stopping_early_with_a_penalty_changes_nothing(width: int, penalty: float) -> None:
    features, decoder = make_features(8, 3), TinyDecoder(len(WORDS), 3, end_bias=0.5)
    config = DecodeConfig(max_length=7, beam_width=width, length_penalty=1.0, implausible_penalty=penalty)
    everything = search(decoder, features, config, SPECIAL_TOKENS, n_best=width, phrases=statistics())
    for n_best in range(1, width):
        fewer = search(decoder, features, config, SPECIAL_TOKENS, n_best=n_best, phrases=statistics())
        assert [[one.tokens for one in found] for found in fewer] == [
            [one.tokens for one in found[:n_best]] for found in everything
        ]


@pytest.mark.parametrize("name", ["greedy", "sample", "beam"])
def test_without_the_settings_statistics_change_nothing(name: str) -> None:
    features, decoder = make_features(6), TinyDecoder(len(WORDS))
    config = DecodeConfig(name=name, max_length=6)
    without = search(decoder, features, config, SPECIAL_TOKENS)
    assert search(decoder, features, config, SPECIAL_TOKENS, phrases=statistics()) == without


@pytest.mark.parametrize("setting", [*KIND_OF, "implausible_penalty"])
def test_the_settings_need_statistics(setting: str) -> None:
    config = DecodeConfig(**{setting: True if setting in KIND_OF else 0.5})  # type: ignore[arg-type]
    with pytest.raises(
        ConfigError, match=rf"decode\.{setting}=.* needs the phrase statistics .* this checkpoint has none"
    ):
        search(TinyDecoder(len(WORDS)), make_features(1), config, SPECIAL_TOKENS)


def test_a_penalty_has_no_effect_without_a_beam() -> None:
    assert not DecodeConfig(name="greedy", implausible_penalty=1.0).needs_phrases
    assert DecodeConfig(implausible_penalty=1.0).guards == ("implausible_penalty=1",)
