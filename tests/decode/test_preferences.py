"""Beam search with word preferences against brute force over all captions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from captioner.config import DecodeConfig
from captioner.decode.beam import TorchRows, beam
from captioner.decode.constrained import Constraints
from captioner.decode.hypothesis import USUAL_LENGTH
from captioner.decode.run_search import search
from captioner.errors import ConfigError
from captioner.runtime.onnx_rows import OnnxRows
from captioner.text.vocabulary import SPECIAL_TOKENS, Vocabulary
from captioner.text.word_preferences import Transfer, WordPreferences
from tests.decode.decoders import CaptionScores, TinyDecoder, all_captions, make_features, one_image, score_caption

WORDS = 3  # tokens 4, 5, 6
SAME = {4: {4, 5}, 5: {4, 5}, 6: {6}}
GROUPS = [{4, 5}, {6}]


def preferences(*gains: float) -> WordPreferences:
    """Of tokens 4, 5 and 6, of which the first two name the same thing."""
    return WordPreferences(dict(zip((4, 5, 6), gains, strict=True)), SAME, GROUPS)


def gain_of(caption: tuple[int, ...], gains: tuple[float, ...]) -> float:
    """By the definition: each thing gains once, by the first word that names it."""
    total, named = 0.0, set[int]()
    for token in caption:
        thing = 0 if token in (4, 5) else 1
        if thing not in named:
            total += gains[token - 4]
        named.add(thing)
    return total


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("gains", [(2.0, 0.0, -1.0), (1.0, 3.0, 9.0), (-4.0, -4.0, 0.5)], ids=str)
@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
def test_a_wide_beam_is_brute_force(seed: int, gains: tuple[float, ...], length_penalty: float) -> None:
    features, decoder = make_features(2, seed), TinyDecoder(WORDS, seed)
    config = DecodeConfig(max_length=3, beam_width=500, length_penalty=length_penalty)
    wanted = [preferences(*gains), preferences(0.0, 0.0, 0.0)]
    for n_best in (1,):
        found = beam(decoder, features, config, SPECIAL_TOKENS, n_best, preferences=wanted)
        for image, of_image in enumerate((gains, (0.0, 0.0, 0.0))):
            log_probs = {
                caption: score_caption(decoder, one_image(features, image), caption, finished=True).log_prob
                for caption in all_captions(4 + WORDS, config)
            }
            scores = {
                caption: log_prob / (len(caption) + 1) ** length_penalty
                + gain_of(caption, of_image) / USUAL_LENGTH**length_penalty
                for caption, log_prob in log_probs.items()
            }
            expected = sorted(scores, key=lambda caption: -scores[caption])[:n_best]
            assert [one.tokens for one in found[image]] == expected
            for one in found[image]:
                assert one.score == pytest.approx(scores[one.tokens], abs=1e-6)
                assert one.log_prob == pytest.approx(log_probs[one.tokens], abs=1e-6), "the model's own, without gains"


@pytest.mark.parametrize("beam_width", [1, 2, 4])
def test_images_do_not_depend_on_their_batch(beam_width: int) -> None:
    features, decoder = make_features(3, 1), TinyDecoder(WORDS, 1)
    config = DecodeConfig(max_length=5, beam_width=beam_width, length_penalty=1.0)
    wanted = [preferences(2.0, 1.0, -1.0), preferences(0.0, 0.0, 0.0), preferences(-3.0, -3.0, 4.0)]
    together = beam(decoder, features, config, SPECIAL_TOKENS, preferences=wanted)
    for image, found in enumerate(together):
        alone = beam(decoder, one_image(features, image), config, SPECIAL_TOKENS, preferences=[wanted[image]])[0]
        assert [one.tokens for one in alone] == [one.tokens for one in found]


@pytest.mark.parametrize("excluded", [(4,), (5,), (6,), (4, 6)])
def test_no_other_word_of_an_excluded_thing_gains(excluded: tuple[int, ...]) -> None:
    """Without "cat", a classifier that sees a cat speaks for no "cats" either; what it denies stays denied."""
    gains = (3.0, 2.0, 4.0)
    gone = {other for token in excluded for other in SAME[token]}
    left = preferences(*(0.0 if token in gone else gain for token, gain in zip((4, 5, 6), gains, strict=True)))
    features, decoder = make_features(3, 0), TinyDecoder(WORDS, 0)
    config = DecodeConfig(max_length=5, beam_width=4, length_penalty=1.0)
    constraints = [Constraints(excluded=tuple((token,) for token in excluded))] * 3

    def found(wanted: WordPreferences) -> list[tuple[tuple[int, ...], float]]:
        images = beam(decoder, features, config, SPECIAL_TOKENS, preferences=[wanted] * 3, constraints=constraints)
        return [(best.tokens, best.score) for best, *_ in images]

    assert found(preferences(*gains)) == found(left)
    assert preferences(-1.0, -2.0, 4.0).without({4}).gains == {4: -1.0, 5: -2.0, 6: 4.0}
    with_transfers = WordPreferences({}, SAME, GROUPS, [Transfer(5, (6,), 0.5), Transfer(6, (4,), 0.5)])
    assert with_transfers.without({4}).transfers == (Transfer(6, (4,), 0.5),)


def test_without_gains_nothing_changes() -> None:
    features, decoder = make_features(3, 0), TinyDecoder(WORDS, 0)
    config = DecodeConfig(max_length=5, beam_width=3, length_penalty=1.0)
    plain = beam(decoder, features, config, SPECIAL_TOKENS, 3)
    assert beam(decoder, features, config, SPECIAL_TOKENS, 3, preferences=[preferences(0.0, 0.0, 0.0)] * 3) == plain


def test_total_is_what_the_steps_add_up_to_and_most_bounds_it() -> None:
    gains = (1.0, 3.0, 2.0)
    wanted = preferences(*gains)
    for caption in all_captions(4 + WORDS, DecodeConfig(max_length=3)):
        assert wanted.total(caption) == pytest.approx(gain_of(caption, gains))
        steps = [wanted.next_gains(caption[:place]).get(token, 0.0) for place, token in enumerate(caption)]
        assert sum(steps) == pytest.approx(wanted.total(caption))
        for place in range(len(caption)):
            rest = wanted.total(caption) - wanted.total(caption[:place])
            assert rest <= wanted.most(caption[:place]) + 1e-12
    assert wanted.most(()) == 5.0
    assert math.isclose(wanted.most((4,)), 2.0)


def test_a_weight_without_class_probabilities_is_an_error() -> None:
    config = DecodeConfig(class_weight=1.0)
    vocabulary = Vocabulary(["dog", "cat", "grass"])
    with pytest.raises(ConfigError, match=r"decode\.class_weight=1 needs the class probabilities"):
        search(
            TinyDecoder(WORDS, 0),
            make_features(1, 0),
            config,
            SPECIAL_TOKENS,
            classes=vocabulary.class_preferences,
        )


@pytest.mark.parametrize("words", [["un", "chien"], ["▁a", "▁dog", "dog"]], ids=["French", "units of words"])
def test_a_weight_without_a_word_of_the_classes_is_an_error(words: list[str]) -> None:
    features = make_features(1, 0)._replace(classes=torch.eye(1000)[:1])
    config, classes = DecodeConfig(class_weight=1.0), Vocabulary(words).class_preferences
    with pytest.raises(ConfigError, match=r"decode\.class_weight=1 has no effect: the vocabulary has no word of"):
        search(TinyDecoder(WORDS, 0), features, config, SPECIAL_TOKENS, classes=classes)


def test_a_seen_class_makes_the_search_say_it() -> None:
    vocabulary = Vocabulary(["dog", "cat", "grass"])
    cat, dog = torch.zeros(1, 1000), torch.zeros(1, 1000)
    cat[0, 281], dog[0, 160] = 1.0, 1.0
    config = DecodeConfig(beam_width=3, max_length=4, class_weight=10.0)
    for classes, word, other in ((cat, "cat", "dog"), (dog, "dog", "cat")):
        (found,) = search(
            TinyDecoder(WORDS, 0),
            make_features(1, 0)._replace(classes=classes),
            config,
            SPECIAL_TOKENS,
            classes=vocabulary.class_preferences,
        )
        said = vocabulary.decode(found[0].tokens)
        assert word in said
        assert other not in said


def moved(log_probs: list[float], transfers: tuple[Transfer, ...]) -> list[float]:
    """By the definition, in probabilities."""
    probabilities = np.exp(log_probs)
    for target, sources, share in transfers:
        probabilities[target] += share * probabilities[list(sources)].sum()
        probabilities[list(sources)] *= 1 - share
    return np.log(probabilities).tolist()


@pytest.mark.parametrize("seed", range(3))
def test_with_transfers_a_wide_beam_is_brute_force(seed: int) -> None:
    """4 and 5 name one thing, to which probability moves until it is named; 6 is another one."""
    features, decoder = make_features(1, seed), TinyDecoder(WORDS, seed)
    config = DecodeConfig(max_length=3, beam_width=500)
    transfers = (Transfer(4, (6,), 0.9),)
    wanted = WordPreferences({4: 3.0, 6: -2.0}, {4: {4, 5}, 5: {4, 5}, 6: {6}}, GROUPS, transfers)
    scores = CaptionScores(decoder, features)

    def score(caption: tuple[int, ...], moves: bool) -> float:
        total = 0.0
        for place, token in enumerate((*caption, SPECIAL_TOKENS.end)):
            log_probs = scores.after(caption[:place])[0]
            named = {4, 5} & set(caption[:place])
            total += (moved(log_probs, transfers) if moves and not named else log_probs)[token]
        return total

    captions = all_captions(4 + WORDS, config)
    gain = {caption: gain_of(caption, (3.0, 0.0, -2.0)) for caption in captions}
    first = max(captions, key=lambda caption: score(caption, False))
    best, value = max(((c, score(c, True) + gain[c]) for c in captions if c != first), key=lambda one: one[1])
    if score(first, False) + gain[first] > value:
        best, value = first, score(first, False) + gain[first]
    (found,) = beam(decoder, features, config, SPECIAL_TOKENS, preferences=[wanted])
    assert found[0].tokens == best
    assert found[0].score == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize("library", ["torch", "numpy"])
def test_moving_conserves_probability_and_follows_the_definition(library: str) -> None:
    logits = np.random.default_rng(0).normal(size=(2, 9)).astype(np.float32) * 5
    transfers = (Transfer(4, (5, 6), 0.8), Transfer(7, (8,), 0.999))
    rows: TorchRows | OnnxRows
    if library == "torch":
        rows = TorchRows(TinyDecoder(WORDS, 0), make_features(2, 0), DecodeConfig(), SPECIAL_TOKENS, None)
        rows._logits = torch.from_numpy(logits.copy())
    else:
        unused: Any = None
        rows = OnnxRows(unused, {}, 2, DecodeConfig(), SPECIAL_TOKENS, None)
        rows._logits = logits.copy()
    rows.move_probability([transfers, ()])
    found = np.asarray(rows._logits, np.float64)
    before = np.exp(logits.astype(np.float64))
    np.testing.assert_allclose(np.exp(found).sum(axis=1), before.sum(axis=1), rtol=1e-6)
    np.testing.assert_allclose(found[0], moved(logits[0].astype(np.float64).tolist(), transfers), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found[1], logits[1])
