"""The table of everyday words keeps its own rules."""

from __future__ import annotations

import numpy as np
import pytest
from torchvision.models import EfficientNet_B0_Weights

from captioner.text import ptb_tokenize
from captioner.text.class_words import CLASSES, concept_probabilities, concepts, membership

NAMES: list[str] = EfficientNet_B0_Weights.DEFAULT.meta["categories"]


def concept_of(word: str) -> list[str]:
    """The names of the classes of the concept called `word`."""
    (found,) = (concept for concept in concepts() if concept.word == word)
    return [NAMES[number] for number in found.classes]


@pytest.mark.parametrize(
    ("word", "some"),
    [
        ("dog", {"Chihuahua", "beagle", "Mexican hairless"}),
        ("cat", {"tabby", "tiger cat", "Persian cat", "Siamese cat", "Egyptian cat"}),
        ("bus", {"minibus", "school bus", "trolleybus"}),
        ("pizza", {"pizza"}),
        ("laptop", {"laptop", "notebook"}),
        ("zebra", {"zebra"}),
        ("broccoli", {"broccoli"}),
        ("umbrella", {"umbrella"}),
        ("elephant", {"tusker", "Indian elephant", "African elephant"}),
        ("plane", {"airliner", "warplane", "wing"}),
        ("clock", {"analog clock", "digital clock", "wall clock"}),
        ("toilet", {"toilet seat"}),
    ],
)
def test_words_stand_for_the_classes_of_that_name(word: str, some: set[str]) -> None:
    names = concept_of(word)
    assert some <= set(names)
    if word not in ("dog",):
        assert set(names) == some


def test_dogs_and_birds_are_the_whole_families() -> None:
    assert len(concept_of("dog")) == 118
    assert {"cock", "ostrich", "albatross", "flamingo"} <= set(concept_of("bird"))


def test_every_word_is_one_token_and_once_in_its_line() -> None:
    for concept in concepts():
        assert len(set(concept.words)) == len(concept.words), concept
        for word in concept.words:
            assert ptb_tokenize(word) == [word]


def test_concepts_have_names_of_their_own_and_existing_classes() -> None:
    words = [concept.word for concept in concepts()]
    assert len(set(words)) == len(words)
    for concept in concepts():
        assert concept.classes
        assert len(set(concept.classes)) == len(concept.classes), concept
        assert 0 <= min(concept.classes) <= max(concept.classes) < CLASSES


def test_fine_classes_are_summed() -> None:
    probabilities = np.zeros((1, CLASSES), np.float32)
    probabilities[0, NAMES.index("tabby")], probabilities[0, NAMES.index("Egyptian cat")] = 0.25, 0.5
    found = concept_probabilities(probabilities)[0]
    by_word = {concept.word: value for concept, value in zip(concepts(), found, strict=True) if value}
    assert by_word == {"cat": 0.75}
    assert membership().shape == (len(concepts()), CLASSES)
