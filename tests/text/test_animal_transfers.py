"""Which probability moves to the animal that the classes see, by the definition."""

from __future__ import annotations

import numpy as np
import pytest

from captioner.text.animal_transfers import CERTAIN, MOST
from captioner.text.class_preferences import ClassPreferences
from captioner.text.class_words import TEMPERATURE, concepts
from captioner.text.vocabulary import Vocabulary
from captioner.text.word_preferences import Transfer

WORDS = [
    "dog",
    "dogs",
    "puppy",
    "puppies",
    "elephant",
    "elephants",
    "zebra",
    "bird",
    "duck",
    "geese",
    "cattle",
    "pizza",
]
VOCABULARY = Vocabulary(WORDS)


def image(**by_class: float) -> np.ndarray:
    """Class probabilities of which the sharpened ones are these; the rest is on class 111, a nematode."""
    found = np.zeros((1, 1000))
    for name, value in by_class.items():
        found[0, int(name.removeprefix("c"))] = value
    found[0, 111] = 1 - found.sum()
    powers = found**TEMPERATURE
    return powers / powers.sum()


def transfers(**by_class: float) -> list[tuple[str, set[str], float]]:
    (found,) = ClassPreferences(VOCABULARY).of_images(image(**by_class), weight=3.0)
    return [
        (VOCABULARY.tokens[one.target], {VOCABULARY.tokens[token] for token in one.sources}, one.share)
        for one in found.transfers
    ]


def test_singulars_give_to_the_singular_and_plurals_to_the_plural() -> None:
    singular, plural = transfers(c385=0.5, c386=0.4)  # two kinds of elephant
    assert singular[:2] == ("elephant", {"dog", "puppy", "zebra", "bird", "duck"})
    assert plural[:2] == ("elephants", {"dogs", "puppies", "geese", "cattle"})
    assert singular[2] == plural[2] == pytest.approx(0.9)


def test_a_word_without_a_plural_stands_for_many() -> None:
    assert [one[0] for one in transfers(c340=0.95)] == ["zebra", "zebra"]


def test_words_of_the_same_thing_give_nothing() -> None:
    """A duck is a bird: the decoder may say either."""
    assert all(not {"bird", "duck"} & sources for _, sources, _ in transfers(c97=1.0))
    assert all(not {"dog", "puppy", "puppies", "dogs"} & sources for _, sources, _ in transfers(c160=1.0))


def test_less_certain_animals_and_other_things_move_nothing() -> None:
    assert transfers(c385=CERTAIN - 1e-6) == []
    assert transfers(c385=CERTAIN + 1e-6) != []
    assert transfers(c963=1.0) == [], "a pizza is no animal"
    assert transfers(c291=1.0) == [], "no word for a lion"
    assert {share for _, _, share in transfers(c385=1.0)} == {MOST}


def test_an_animal_that_is_named_receives_nothing_more() -> None:
    (found,) = ClassPreferences(VOCABULARY).of_images(image(c385=0.9), weight=3.0)
    elephant, elephants, dog = VOCABULARY.encode(["elephant", "elephants", "dog"])
    assert [one.target for one in found.next_transfers([dog])] == [elephant, elephants]
    assert found.next_transfers([elephants]) == []
    assert all(isinstance(one, Transfer) for one in found.transfers)


def test_every_animal_has_a_singular() -> None:
    for concept in concepts():
        assert not concept.is_plural(concept.word), concept
    plurals = {word for concept in concepts() for word in concept.words if concept.is_plural(word)}
    assert plurals >= {"dogs", "puppies", "buses", "geese", "cattle"}
    assert not {"bus", "canvas", "grass", "dress", "octopus"} & plurals
