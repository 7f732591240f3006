"""From the probabilities of ImageNet's classes to the gains of words: `WordPreferences` of each image.

The gain of a word whose classes have the sharpened probability p together is, with a weight w,

    w · ln(p / 0.1)                     for p above 0.1: the classifier sees it
    w · ln(max(p, 0.001) / 0.02)        for p below 0.02 and animals only: the classifier sees none
    0                                   otherwise

Below 0.1 a class may be the background or a guess. What is no animal may be in the image all the same when the
classifier, which knows one object per image, sees something else. An animal that is seen for certain has transfers as
well (`captioner.text.animal_transfers`).
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from captioner.text.animal_transfers import ANIMALS, CERTAIN, MOST, AnimalTransfers
from captioner.text.class_words import CLASSES, TEMPERATURE, concept_probabilities, concepts, sharpen
from captioner.text.vocabulary import Vocabulary
from captioner.text.word_preferences import WordPreferences

if TYPE_CHECKING:
    from jaxtyping import Float

SEEN = 0.1
NOT_SEEN, FLOOR = 0.02, 0.001
DENIABLE = ANIMALS  # the kind of concepts whose absence counts
_UNIT = "▁"  # begins the first unit of a word, where words are divided (U+2581)


class ClassPreferences:
    """Makes the preferences of images for the words of one vocabulary."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        if any(token.startswith(_UNIT) for token in vocabulary.tokens):
            vocabulary = Vocabulary([])  # of units: "car" may be a part of any word
        classes: dict[int, set[int]] = defaultdict(set)
        deniable: set[int] = set()
        self._groups: list[set[int]] = []
        for concept in concepts():
            tokens = vocabulary.encode([word for word in concept.words if word in vocabulary])
            self._groups.append(set(tokens) - classes.keys())
            for token in tokens:
                classes[token].update(concept.classes)
            deniable |= set(tokens) if concept.kind == DENIABLE else set()
        self._tokens = sorted(classes)
        self._classes = np.zeros((len(self._tokens), CLASSES), np.float32)
        for row, token in zip(self._classes, self._tokens, strict=True):
            row[list(classes[token])] = 1
        self._deniable = np.array([token in deniable for token in self._tokens])
        overlaps = (self._classes @ self._classes.T) > 0
        self._same = {
            token: frozenset(self._tokens[other] for other in np.flatnonzero(row).tolist())
            for token, row in zip(self._tokens, overlaps, strict=True)
        }
        self._transfers = AnimalTransfers(vocabulary, self._same)

    @property
    def has_words(self) -> bool:
        """Whether the vocabulary has a word that a class speaks for: else there is nothing to prefer."""
        return bool(self._tokens)

    def of_images(self, probabilities: Float[np.ndarray, "B 1000"], weight: float) -> list[WordPreferences]:
        """The preferences of B images."""
        sharpened = sharpen(probabilities)
        gains = weight * self._log_odds(sharpened @ self._classes.T)
        seen = concept_probabilities(sharpened)
        return [
            WordPreferences(
                dict(zip(self._tokens, row, strict=True)), self._same, self._groups, self._transfers.of_image(of_image)
            )
            for row, of_image in zip(gains.tolist(), seen.tolist(), strict=True)
        ]

    def to_plain(self) -> dict[str, Any]:
        """All that it knows of the vocabulary, as JSON values, for the page without a server.

        constants: those of the formulas. words: of each token with classes, these, the tokens that name the same thing,
        and whether its absence counts.
        """
        return {
            "constants": {
                "temperature": TEMPERATURE,
                "seen": SEEN,
                "not_seen": NOT_SEEN,
                "floor": FLOOR,
                "certain": CERTAIN,
                "most": MOST,
            },
            "words": [
                {
                    "token": token,
                    "classes": np.flatnonzero(row).tolist(),
                    "same": sorted(self._same[token]),
                    "deniable": bool(deniable),
                }
                for token, row, deniable in zip(self._tokens, self._classes, self._deniable, strict=True)
            ],
            "groups": [sorted(group) for group in self._groups if group],
            "animals": self._transfers.to_plain(),
        }

    def _log_odds(self, of_words: Float[np.ndarray, "B W"]) -> Float[np.ndarray, "B W"]:
        seen = np.log(np.maximum(of_words, SEEN) / SEEN)
        denied = np.log(np.clip(of_words, FLOOR, NOT_SEEN) / NOT_SEEN) * self._deniable
        odds: np.ndarray = seen + denied
        return odds
