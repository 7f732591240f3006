"""Probability that moves to the animal that the classes see, from the animals that the decoder would name.

A captioner that has hardly read of elephants calls one a dog: where an animal belongs into the sentence, its words for
the animals it knows are all that it can say. A gain alone seldom helps, because a word that is improbable at every step
falls out of the beam before its gain counts. So where an animal has the sharpened probability p ≥ 0.75, the share p of
the probability of all other animals goes to its word at each step: P(elephant) + p · P(dog, cat, …), the singulars to
its singular and the plurals to its plural. The sentence stays the decoder's, and so does the sum. It is a pointer to
the classifier's word in place of a copy from a source text (See et al. 2017, equation 9, has such a mixture).

The decoder knows the animals of its training photos better than the classifier does, so probabilities below 0.75, such
as those of a wet dog that might be a seal, move nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

from captioner.text.class_words import Concept, concepts
from captioner.text.vocabulary import Vocabulary
from captioner.text.word_preferences import Transfer

CERTAIN = 0.75
MOST = 0.999  # what moves at most, so that the logarithm of the rest is finite
ANIMALS = "animals"  # the kind of these concepts


class AnimalTransfers:
    """The transfers for the words of one vocabulary. same: token → the tokens that name the same thing."""

    def __init__(self, vocabulary: Vocabulary, same: Mapping[int, Set[int]]) -> None:
        self._same = same
        self._of_concepts: list[tuple[int, list[int], list[int]]] = []  # place in `concepts`, singulars, plurals
        for place, concept in enumerate(concepts()):
            if concept.kind == ANIMALS:
                known = [word for word in concept.words if word in vocabulary]
                singulars, plurals = (vocabulary.encode(_of_number(known, concept, plural)) for plural in (False, True))
                self._of_concepts.append((place, singulars, plurals))
        self._singulars = {token for _, singulars, _ in self._of_concepts for token in singulars}
        self._plurals = {token for _, _, plurals in self._of_concepts for token in plurals}

    def of_image(self, probabilities: Sequence[float]) -> tuple[Transfer, ...]:
        """From the sharpened probabilities of the `concepts`."""
        place, singulars, plurals = max(self._of_concepts, key=lambda one: probabilities[one[0]])
        share = min(probabilities[place], MOST)
        if share < CERTAIN or not singulars:
            return ()
        targets = ((singulars[0], self._singulars), ((plurals or singulars)[0], self._plurals))
        given = ((target, tuple(sorted(others - self._same[target] - {target}))) for target, others in targets)
        return tuple(Transfer(target, sources, share) for target, sources in given if sources)

    def to_plain(self) -> list[dict[str, Any]]:
        """The animals as JSON values: the classes of each, and the tokens of its words, singulars and plurals."""
        return [
            {"classes": list(concepts()[place].classes), "singulars": singulars, "plurals": plurals}
            for place, singulars, plurals in self._of_concepts
        ]


def _of_number(words: Sequence[str], concept: Concept, plural: bool) -> list[str]:
    return [word for word in words if concept.is_plural(word) == plural]
