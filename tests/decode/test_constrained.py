"""Constrained beam search against brute force over all captions of a tiny vocabulary."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest
import torch

from captioner.captioning.word_constraints import word_constraints
from captioner.config import DecodeConfig, TokenizerConfig, VocabularyConfig
from captioner.decode.beam import TorchRows, beam
from captioner.decode.beam_search import beam_search
from captioner.decode.consensus import consensus_search
from captioner.decode.constrained import Constraints, Phrase, constrained_beam_search
from captioner.decode.hypothesis import USUAL_LENGTH
from captioner.decode.run_search import search
from captioner.errors import ConfigError
from captioner.text.articles import Articles
from captioner.text.phrases import PhraseStatistics
from captioner.text.tokenizers import learn_tokenizer
from captioner.text.vocabulary import SPECIAL_TOKENS, Vocabulary
from captioner.text.word_preferences import Transfer, WordPreferences
from tests.decode.consensus import random_predictor, similarity_by_definition
from tests.decode.decoders import (
    END,
    CaptionScores,
    TinyDecoder,
    all_captions,
    make_features,
    one_image,
    score_caption,
)

WORDS = 3  # tokens 4, 5, 6
GAINS = {4: 9.0, 5: -4.0, 6: 6.0}
"""Of three things; each gains when it is named first."""
THINGS = {token: {token} for token in GAINS}
A, AN, VOWEL, CONSONANT = 4, 5, 6, 7
ARTICLES = Articles(A, AN, frozenset({VOWEL}), frozenset(range(6)))
PRINTED_CASES = [
    Constraints(excluded=((AN, VOWEL),), articles=ARTICLES),
    Constraints(excluded=((A,), (VOWEL, CONSONANT)), articles=ARTICLES),
    Constraints(excluded=((CONSONANT, AN), (AN, AN)), articles=ARTICLES),
    Constraints(required=(((AN, VOWEL),),), articles=ARTICLES),
    Constraints(required=(((CONSONANT, AN),),), excluded=((AN, AN, VOWEL),), articles=ARTICLES),
    Constraints(required=(((A,),), ((AN,),)), articles=ARTICLES),
    Constraints(required=(((A, A, CONSONANT), (VOWEL, AN, VOWEL)),), excluded=((AN, A),), articles=ARTICLES),
    Constraints(required=(((VOWEL,),),), excluded=((CONSONANT,),), articles=ARTICLES),
]
CASES = [
    Constraints(),
    Constraints(required=(((4,),),)),
    Constraints(required=(((4,), (5, 5)),)),
    Constraints(required=(((5, 6),), ((4,),))),
    Constraints(required=(((4, 4, 5), (6, 6)),), excluded=((5,),)),
    Constraints(required=(((6,),),), excluded=((6, 6), (4, 5))),
]


def occurs(phrase: Phrase, caption: Phrase) -> bool:
    return any(caption[start : start + len(phrase)] == phrase for start in range(len(caption)))


def allowed(caption: Phrase, constraints: Constraints) -> bool:
    """By the definition."""
    return all(any(occurs(phrase, caption) for phrase in phrases) for phrases in constraints.required) and not any(
        occurs(phrase, caption) for phrase in constraints.excluded
    )


@pytest.mark.parametrize("constraints", CASES, ids=str)
@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
def test_a_wide_beam_is_brute_force(constraints: Constraints, length_penalty: float) -> None:
    features, decoder = make_features(2, 0), TinyDecoder(WORDS, 0)
    config = DecodeConfig(max_length=4, beam_width=200, length_penalty=length_penalty)
    found = beam(decoder, features, config, SPECIAL_TOKENS, n_best=3, constraints=[constraints] * 2)
    for image in range(2):
        scores = {
            caption: score_caption(decoder, one_image(features, image), caption, finished=True).log_prob
            / (len(caption) + 1) ** length_penalty
            for caption in all_captions(4 + WORDS, config)
            if allowed(caption, constraints)
        }
        expected = sorted(scores, key=lambda caption: -scores[caption])[:3]
        assert [one.tokens for one in found[image]] == expected
        assert [one.score for one in found[image]] == pytest.approx([scores[one] for one in expected], abs=1e-6)


@pytest.mark.parametrize("beam_width", [1, 2, 3])
def test_every_caption_meets_its_constraints_and_does_not_depend_on_the_batch(beam_width: int) -> None:
    features, decoder = make_features(len(CASES), 1), TinyDecoder(WORDS, 1)
    config = DecodeConfig(max_length=6, beam_width=beam_width, length_penalty=1.0)
    together = beam(decoder, features, config, SPECIAL_TOKENS, constraints=CASES)
    for image, ((found,), constraints) in enumerate(zip(together, CASES, strict=True)):
        assert found.finished
        assert allowed(found.tokens, constraints)
        ((alone,),) = beam(decoder, one_image(features, image), config, SPECIAL_TOKENS, constraints=[constraints])
        assert alone.tokens == found.tokens
        assert alone.log_prob == pytest.approx(found.log_prob, abs=1e-5)


def test_what_cannot_be_met_is_unfinished() -> None:
    config = DecodeConfig(max_length=2, beam_width=2)
    wanted = Constraints(required=(((4,),), ((5,),), ((6,),)))
    ((found,),) = beam(TinyDecoder(WORDS, 0), make_features(1, 0), config, SPECIAL_TOKENS, constraints=[wanted])
    assert not found.finished
    assert len(set(found.tokens)) == 2, "it meets as many as it can"


@pytest.mark.parametrize(
    "wrong", [{"required": ((),)}, {"required": (((),),)}, {"excluded": ((),)}, {"required": (((4,),),) * 11}]
)
def test_impossible_constraints_are_errors(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="requirement"):
        Constraints(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("width", [1, 2, 3, 5])
@pytest.mark.parametrize("length_penalty", [0.0, 3.0])
def test_without_constraints_it_is_beam_search(width: int, length_penalty: float) -> None:
    features, decoder = make_features(6, 4), TinyDecoder(WORDS, 4)
    config = DecodeConfig(max_length=12, beam_width=width, length_penalty=length_penalty, repetition_penalty=1.2)
    wanted = [WordPreferences(GAINS, THINGS)] * 6
    rows, others = (TorchRows(decoder, features, config, SPECIAL_TOKENS, None) for _ in range(2))
    with torch.inference_mode():
        plain = beam_search(rows, 6, config, SPECIAL_TOKENS, width, preferences=wanted)
        found = constrained_beam_search(others, [Constraints()] * 6, config, SPECIAL_TOKENS, width, preferences=wanted)
    complete = 0
    for of_plain, of_image in zip(plain, found, strict=True):
        if all(one.finished for one in of_plain):  # else one that does not end in time has a place there
            assert of_image == of_plain
            complete += 1
    assert complete


def gain_of(caption: Phrase) -> float:
    return sum(GAINS[token] for token in set(caption))


@pytest.mark.parametrize("constraints", CASES, ids=str)
@pytest.mark.parametrize(("gains", "weight"), [(True, 0.0), (False, 1.0), (True, 1.0)])
@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
def test_classes_and_consensus_rank_what_meets_the_constraints_as_brute_force_does(
    constraints: Constraints, gains: bool, weight: float, length_penalty: float
) -> None:
    features, decoder, predictor = make_features(2, 6), TinyDecoder(WORDS, 6), random_predictor(values=5)
    config = DecodeConfig(max_length=3, beam_width=50, length_penalty=length_penalty, consensus_weight=weight)
    preferences = [WordPreferences(GAINS, THINGS)] * 2 if gains else None
    vectors = features.vector.numpy()
    found = consensus_search(
        lambda n: beam(
            decoder, features, config, SPECIAL_TOKENS, n, preferences=preferences, constraints=[constraints] * 2
        ),
        lambda: vectors,
        config,
        3,
        predictor,
    )
    plain = beam(decoder, features, config, SPECIAL_TOKENS, constraints=[constraints] * 2)
    for image in range(2):
        of_image = CaptionScores(decoder, one_image(features, image))
        scores = {
            caption: of_image.score(caption, finished=True).log_prob / (len(caption) + 1) ** length_penalty
            + gains * gain_of(caption) / USUAL_LENGTH**length_penalty
            + (weight and weight * similarity_by_definition(predictor, vectors[image], caption))
            for caption in all_captions(4 + WORDS, config)
            if allowed(caption, constraints)
        }
        expected = sorted(scores, key=lambda caption: -scores[caption])[:3]
        sure = 3 if weight else 1  # a caption that has all there is to gain is not searched again
        assert [one.tokens for one in found[image]][:sure] == expected[:sure]
        for one in found[image]:
            assert one.score == pytest.approx(scores[one.tokens], abs=1e-6)
    if not constraints.required and not constraints.excluded:
        assert [one[0].tokens for one in found] != [one[0].tokens for one in plain], "else this test shows nothing"


@pytest.mark.parametrize("seed", range(3))
def test_probability_moves_between_words_under_constraints(seed: int) -> None:
    """4 is certain to be there: nine tenths of the probability of 6 go to it until it is named. 5 must be named."""
    features, decoder = make_features(1, seed), TinyDecoder(WORDS, seed)
    config = DecodeConfig(max_length=3, beam_width=50)
    wanted = WordPreferences({4: 3.0, 6: -2.0}, THINGS, transfers=[Transfer(4, (6,), 0.9)])
    scores = CaptionScores(decoder, features)

    def gain(caption: Phrase) -> float:
        return sum({4: 3.0, 6: -2.0}.get(token, 0.0) for token in set(caption))

    def score(caption: Phrase) -> float:
        total = gain(caption)
        for place, token in enumerate((*caption, END)):
            probabilities = [math.exp(log_prob) for log_prob in scores.after(caption[:place])[0]]
            if 4 not in caption[:place]:
                probabilities[4] += 0.9 * probabilities[6]
                probabilities[6] *= 0.1
            total += math.log(probabilities[token])
        return total

    constraints = Constraints(required=(((5,),),))
    captions = [caption for caption in all_captions(4 + WORDS, config) if allowed(caption, constraints)]
    first = max(captions, key=lambda caption: scores.score(caption, finished=True).log_prob)
    unmoved = scores.score(first, finished=True).log_prob + gain(first)
    values = {caption: score(caption) for caption in captions} | {first: unmoved}
    (found,) = beam(decoder, features, config, SPECIAL_TOKENS, preferences=[wanted], constraints=[constraints])
    assert found[0].tokens == max(values, key=lambda caption: values[caption])
    assert found[0].score == pytest.approx(values[found[0].tokens], abs=1e-9)


@pytest.mark.parametrize("constraints", PRINTED_CASES, ids=str)
@pytest.mark.parametrize("max_length", [1, 3])
def test_constraints_are_about_what_is_printed(constraints: Constraints, max_length: int) -> None:
    features, decoder = make_features(1, 2), TinyDecoder(4, 2)
    config = DecodeConfig(max_length=max_length, beam_width=100)
    (found,) = beam(decoder, features, config, SPECIAL_TOKENS, 100, constraints=[constraints])
    scores, of_image = {}, CaptionScores(decoder, features)
    for caption in all_captions(8, config):
        if allowed(tuple(ARTICLES.agree(caption)), constraints):
            scores[caption] = of_image.score(caption, finished=True).log_prob
    expected = sorted(scores, key=lambda caption: -scores[caption])
    if expected:
        assert [one.tokens for one in found] == expected
        assert all(one.finished and one.unmet == 0 for one in found)
    else:
        assert [one.finished for one in found] == [False]
        cut = [tuple(ARTICLES.agree((token,))) for token in (A, AN, VOWEL, CONSONANT)]
        lacking = {c: [one for one in constraints.required if not any(occurs(p, c) for p in one)] for c in cut}
        assert found[0].unmet == min(len(of_caption) for of_caption in lacking.values())


@pytest.mark.parametrize("beam_width", [1, 3])
def test_what_is_printed_meets_the_constraints_in_a_narrow_beam(beam_width: int) -> None:
    features, decoder = make_features(len(PRINTED_CASES), 1), TinyDecoder(4, 1)
    config = DecodeConfig(max_length=4, beam_width=beam_width, length_penalty=1.0)
    wanted = [WordPreferences({6: 1.0, 7: -1.0}, {6: {6}, 7: {7}})] * len(PRINTED_CASES)
    together = beam(decoder, features, config, SPECIAL_TOKENS, preferences=wanted, constraints=PRINTED_CASES)
    for image, ((found,), constraints) in enumerate(zip(together, PRINTED_CASES, strict=True)):
        assert found.finished
        assert allowed(tuple(ARTICLES.agree(found.tokens)), constraints)
        ((alone,),) = beam(
            decoder,
            one_image(features, image),
            config,
            SPECIAL_TOKENS,
            preferences=wanted[:1],
            constraints=[constraints],
        )
        assert alone.tokens == found.tokens
        assert alone.score == pytest.approx(found.score, abs=1e-9)


def test_a_caption_that_is_cut_has_no_excluded_word_if_one_without_it_is_found() -> None:
    """Every one-word caption breaks off after its word; of the articles' two forms one is excluded."""
    features, decoder = make_features(1, 0), TinyDecoder(4, 0, end_bias=-1000.0)
    decoder.bias[A] += 100.0
    for excluded in (A, AN):
        constraints = Constraints(required=(((6, 7),),), excluded=((excluded,), (7,)), articles=ARTICLES)
        ((found,),) = beam(decoder, features, DecodeConfig(max_length=1), SPECIAL_TOKENS, constraints=[constraints])
        assert not found.finished
        assert found.tokens != (excluded,)
        assert found.unmet == 1


@pytest.mark.parametrize("constraints", CASES, ids=str)
@pytest.mark.parametrize("settings", [{"repetition_penalty": 3.0}, {"implausible_penalty": 0.8}], ids=str)
def test_penalties_count_under_constraints(constraints: Constraints, settings: dict[str, float]) -> None:
    features, decoder = make_features(1, 5), TinyDecoder(WORDS, 5)
    config = DecodeConfig(max_length=3, beam_width=50, **settings)  # type: ignore[arg-type]
    choose = random.Random(0)  # 4 never ends a caption
    phrases = PhraseStatistics.from_captions(
        [[*(choose.choice((4, 5, 6)) for _ in range(4)), choose.choice((5, 6))] for _ in range(2000)], END
    )
    of_image, scores = CaptionScores(decoder, features), dict[Phrase, float]()
    for caption in all_captions(4 + WORDS, config):
        if allowed(caption, constraints):
            log_probs = [of_image.after(caption[:place])[0][token] for place, token in enumerate((*caption, END))]
            times = [config.repetition_penalty if t in caption[:i] else 1.0 for i, t in enumerate(caption)] + [1.0]
            total = sum(log_prob * factor for log_prob, factor in zip(log_probs, times, strict=True))
            scores[caption] = total - config.implausible_penalty * bool(phrases.find(caption))
    expected = sorted(scores, key=lambda caption: -scores[caption])[:5]
    (found,) = search(decoder, features, config, SPECIAL_TOKENS, n_best=5, phrases=phrases, constraints=[constraints])
    assert [one.tokens for one in found] == expected
    assert [one.score for one in found] == pytest.approx([scores[one] for one in expected], abs=1e-9)


@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("length_penalty", [0.5, 3.0])
def test_stopping_early_changes_nothing_with_gains_and_penalties(width: int, length_penalty: float) -> None:
    features, decoder = make_features(len(CASES), 3), TinyDecoder(WORDS, 3, end_bias=0.5)
    config = DecodeConfig(max_length=5, beam_width=width, length_penalty=length_penalty, repetition_penalty=1.5)
    wanted = [WordPreferences(GAINS, THINGS)] * len(CASES)
    everything, first = (
        beam(decoder, features, config, SPECIAL_TOKENS, n, preferences=wanted, constraints=CASES) for n in (10**6, 1)
    )
    for many, (best,) in zip(everything, first, strict=True):
        assert best.tokens == many[0].tokens


def test_another_search_knows_no_constraints() -> None:
    config = DecodeConfig(name="diverse")
    with pytest.raises(ConfigError, match="need decode='beam', but this is 'diverse'"):
        search(TinyDecoder(WORDS), make_features(1), config, SPECIAL_TOKENS, constraints=[CASES[1]])


FIRST = 4  # the token id of the first word
UNITS = ("▁ca", "r", "▁car", "t")  # "car" is ▁car or ▁ca r; "cart" and "car car" have several spellings, too


def text_of_units(tokens: Sequence[int]) -> str:
    return "".join(UNITS[token - FIRST] for token in tokens).replace("▁", " ").strip()


UNIT_CASES = [
    Constraints(excluded_words=("car",), text_of=text_of_units),
    Constraints(excluded_words=("cart", "ca"), text_of=text_of_units),
    Constraints(excluded_words=("car cart",), text_of=text_of_units),
    Constraints(required=(((FIRST, FIRST + 1),),), excluded_words=("car",), text_of=text_of_units),
]


@pytest.mark.parametrize("constraints", UNIT_CASES, ids=str)
@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
def test_words_of_units_are_excluded_in_every_spelling(constraints: Constraints, length_penalty: float) -> None:
    features, decoder = make_features(2, 0), TinyDecoder(len(UNITS), 0)
    config = DecodeConfig(max_length=4, beam_width=400, length_penalty=length_penalty)
    found = beam(decoder, features, config, SPECIAL_TOKENS, n_best=3, constraints=[constraints] * 2)

    def is_allowed(caption: Phrase) -> bool:
        words = tuple(text_of_units(caption).split())
        return allowed(caption, constraints) and not any(
            words[start : start + len(phrase)] == phrase
            for phrase in (tuple(excluded.split()) for excluded in constraints.excluded_words)
            for start in range(len(words))
        )

    for image in range(2):
        scores = {
            caption: score_caption(decoder, one_image(features, image), caption, finished=True).log_prob
            / (len(caption) + 1) ** length_penalty
            for caption in all_captions(4 + len(UNITS), config)
            if is_allowed(caption)
        }
        expected = sorted(scores, key=lambda caption: -scores[caption])[:3]
        assert [one.tokens for one in found[image]] == expected
        assert [one.score for one in found[image]] == pytest.approx([scores[one] for one in expected], abs=1e-6)


@pytest.mark.parametrize("beam_width", [1, 2])
def test_a_narrow_beam_says_no_excluded_word_either(beam_width: int) -> None:
    features, decoder = make_features(4, 1), TinyDecoder(len(UNITS), 1)
    config = DecodeConfig(max_length=6, beam_width=beam_width)
    for constraints in UNIT_CASES:
        for (one,) in beam(decoder, features, config, SPECIAL_TOKENS, constraints=[constraints] * 4):
            words = text_of_units(one.tokens).split()
            assert not one.finished or not set(words) & set(constraints.excluded_words)


def test_must_not_compares_words_where_the_tokenizer_has_learned_units() -> None:
    pytest.importorskip("sentencepiece")
    captions = ["a car on a road", "a cart on a car", "cars and carts", "a road"] * 3
    tokenizer = learn_tokenizer(TokenizerConfig("bpe", subwords=30), captions)
    units_of_all = [*tokenizer.tokenize_all(captions), list("▁acrton")]
    vocabulary = Vocabulary.from_captions(units_of_all, VocabularyConfig(min_count=1))
    constraints = word_constraints([], ["car"], DecodeConfig(), vocabulary, tokenizer)
    assert constraints is not None

    def units(text: str) -> Phrase:
        """Letter by letter, as the tokenizer would never divide it."""
        return tuple(vocabulary.encode(text.replace(" ", "▁")))

    assert tokenizer.join(vocabulary.decode(units(" a car"))) == "a car"
    assert units(" a car") != tuple(vocabulary.encode(tokenizer.tokenize("a car")))
    assert constraints.excludes_words(units(" a car"), ended=True)
    assert constraints.excludes_words(units(" a car on"))
    assert not constraints.excludes_words(units(" a car"))  # it may become "cart"
    assert not constraints.excludes_words(units(" a cart"), ended=True)
