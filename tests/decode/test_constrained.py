"""Constrained beam search against brute force over all captions of a tiny vocabulary."""

from __future__ import annotations

import pytest

from captioner.config import DecodeConfig
from captioner.decode.beam import constrained_beam
from captioner.decode.constrained import Constraints, Phrase
from captioner.errors import ConfigError
from captioner.text.vocabulary import SPECIAL_TOKENS
from tests.decode.decoders import TinyDecoder, all_captions, make_features, one_image, score_caption

WORDS = 3  # tokens 4, 5, 6
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
    found = constrained_beam(decoder, features, config, SPECIAL_TOKENS, [constraints] * 2, n_best=3)
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
    together = constrained_beam(decoder, features, config, SPECIAL_TOKENS, CASES)
    for image, ((found,), constraints) in enumerate(zip(together, CASES, strict=True)):
        assert found.finished
        assert allowed(found.tokens, constraints)
        ((alone,),) = constrained_beam(decoder, one_image(features, image), config, SPECIAL_TOKENS, [constraints])
        assert alone.tokens == found.tokens
        assert alone.log_prob == pytest.approx(found.log_prob, abs=1e-5)


def test_what_cannot_be_met_is_unfinished() -> None:
    config = DecodeConfig(max_length=2, beam_width=2)
    wanted = Constraints(required=(((4,),), ((5,),), ((6,),)))
    ((found,),) = constrained_beam(TinyDecoder(WORDS, 0), make_features(1, 0), config, SPECIAL_TOKENS, [wanted])
    assert not found.finished
    assert len(set(found.tokens)) == 2, "it meets as many as it can"


@pytest.mark.parametrize(
    "wrong", [{"required": ((),)}, {"required": (((),),)}, {"excluded": ((),)}, {"required": (((4,),),) * 11}]
)
def test_impossible_constraints_are_errors(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="requirement"):
        Constraints(**wrong)  # type: ignore[arg-type]
