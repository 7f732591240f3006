"""Beam search that weighs what an image's classes say of words, with or without constraints on the caption.

The search first runs without preferences. The images whose best caption could gain are searched again with their
preferences, and the hypotheses of both searches are ranked together. A caption that has all there is to gain stays as
it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from captioner.config import DecodeConfig
from captioner.decode.beam_search import DecoderRows, beam_search
from captioner.decode.constrained import Constraints, constrained_beam_search
from captioner.decode.hypothesis import USUAL_LENGTH, Hypothesis
from captioner.errors import ConfigError
from captioner.text.class_preferences import ClassPreferences
from captioner.text.phrases import PhraseStatistics
from captioner.text.vocabulary import SpecialTokens
from captioner.text.word_preferences import WordPreferences

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float


def preferences_of(
    probabilities: Float[np.ndarray, "B 1000"] | None, config: DecodeConfig, classes: ClassPreferences | None
) -> list[WordPreferences] | None:
    """What each image's classes prefer; None where they have no weight in this search.

    ConfigError for a search that needs the class probabilities where there are none, or words that nobody knows.
    """
    if config.name != "beam" or not config.class_weight:
        return None
    if probabilities is None or classes is None:
        raise ConfigError(
            f"decode.class_weight={config.class_weight:g} needs the class probabilities of the images, and here are "
            "none: the encoder's published classifier gives them (docs/tags.md). Use decode.class_weight=0."
        )
    if not classes.has_words:
        raise ConfigError(
            f"decode.class_weight={config.class_weight:g} has no effect: the vocabulary has no word of "
            "captioner/text/class_words.txt, whose words are English and undivided. Use decode.class_weight=0."
        )
    return classes.of_images(probabilities, config.class_weight)


def preferred_beam_search(
    new_rows: Callable[[Sequence[int] | None], DecoderRows],
    images: int,
    config: DecodeConfig,
    special: SpecialTokens,
    n_best: int = 1,
    phrases: PhraseStatistics | None = None,
    preferences: Sequence[WordPreferences] | None = None,
    constraints: Sequence[Constraints] | None = None,
) -> list[list[Hypothesis]]:
    """The `n_best` hypotheses of every image, best first, with the preferences and the constraints of each, if given.

    new_rows: the rows of a new search of the images at these positions; None: of all images. The search is
    `beam_search`, with constraints `constrained_beam_search`.
    """

    def searched(chosen: Sequence[int] | None, wanted: Sequence[WordPreferences] | None) -> list[list[Hypothesis]]:
        rows, places = new_rows(chosen), range(images) if chosen is None else chosen
        if constraints is None:
            return beam_search(rows, len(places), config, special, n_best, phrases, wanted)
        of_images = [constraints[image] for image in places]
        return constrained_beam_search(rows, of_images, config, special, n_best, phrases, wanted)

    if preferences is not None and constraints is not None:
        preferences = [one.without(_excluded_words(of)) for one, of in zip(preferences, constraints, strict=True)]
    found = searched(None, None)
    if preferences is None:
        return found
    usual = math.pow(USUAL_LENGTH, config.length_penalty)
    found = [
        [replace(one, score=one.score + wanted.total(one.tokens) / usual) for one in of_image]
        for of_image, wanted in zip(found, preferences, strict=True)
    ]
    again = [image for image, (best, *_) in enumerate(found) if preferences[image].can_do_better(best.tokens)]
    if not again:
        return found
    for image, others in zip(again, searched(again, [preferences[image] for image in again]), strict=True):
        found[image] = _best_of_both(found[image], others)
    return found


def _best_of_both(first: Sequence[Hypothesis], second: Sequence[Hypothesis]) -> list[Hypothesis]:
    """As many hypotheses as one of two searches found, by score, each caption once; finished ones first."""
    known = {one.tokens for one in first}
    both = [*first, *(one for one in second if one.tokens not in known)]
    return sorted(both, key=lambda one: one.rank)[: max(len(first), len(second))]


def _excluded_words(constraints: Constraints) -> set[int]:
    """The tokens that a caption must not have, wherever they stand."""
    return {phrase[0] for phrase in constraints.excluded if len(phrase) == 1}
