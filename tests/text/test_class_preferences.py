"""The gains of words, from class probabilities, by the definition."""

from __future__ import annotations

import math

import numpy as np
import pytest

from captioner.text.class_preferences import FLOOR, NOT_SEEN, SEEN, ClassPreferences
from captioner.text.class_words import TEMPERATURE, concepts, sharpen
from captioner.text.vocabulary import Vocabulary


def probabilities(**by_class: float) -> np.ndarray:
    """Of one image; the rest of the probability is on class 111, a nematode, which no word names."""
    found = np.zeros((1, 1000))
    for name, value in by_class.items():
        found[0, int(name.removeprefix("c"))] = value
    found[0, 111] = 1 - found.sum()
    return found


def test_sharpening_is_a_softmax_at_a_lower_temperature() -> None:
    logits = np.random.default_rng(0).normal(size=(3, 1000)) * 3
    softmax = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = np.exp(logits / TEMPERATURE) / np.exp(logits / TEMPERATURE).sum(1, keepdims=True)
    np.testing.assert_allclose(sharpen(softmax), expected, rtol=1e-9)


def test_gains_follow_the_definition() -> None:
    vocabulary = Vocabulary(["dog", "cat", "pizza", "food", "table", "horse"])
    given = probabilities(c963=0.6, c281=0.1, c532=0.05)  # pizza, tabby, dining table
    (found,) = ClassPreferences(vocabulary).of_images(given, weight=2.0)
    powers = given[0] ** (1 / TEMPERATURE)
    of = {number: powers[number] / powers.sum() for number in (963, 281, 532)}
    assert of[281] > NOT_SEEN
    gains = {vocabulary.tokens[token]: gain for token, gain in found.gains.items()}
    assert gains == pytest.approx(
        {
            "pizza": 2 * math.log(of[963] / SEEN),
            "food": 2 * math.log(of[963] / SEEN),
            "dog": 2 * math.log(FLOOR / NOT_SEEN),
            "horse": 2 * math.log(FLOOR / NOT_SEEN),
        }
    ), "a table may be there all the same; a dog is not"


def test_words_of_the_same_thing_gain_once() -> None:
    vocabulary = Vocabulary(["pizza", "food", "dog", "dogs"])
    (found,) = ClassPreferences(vocabulary).of_images(probabilities(c963=0.5, c160=0.5), weight=1.0)
    pizza, food, dog, dogs = vocabulary.encode(["pizza", "food", "dog", "dogs"])
    after = found.next_gains([food])
    assert pizza not in after
    assert dog in after
    assert found.next_gains([food, dogs]) == {}
    assert found.total([food, dog, pizza, dogs]) == pytest.approx(found.gains[food] + found.gains[dog])
    assert found.most([food]) == pytest.approx(found.gains[dog])


def test_every_concept_with_a_known_word_can_gain() -> None:
    vocabulary = Vocabulary(list(dict.fromkeys(word for concept in concepts() for word in concept.words)))
    classes = np.eye(1000)
    preferences = ClassPreferences(vocabulary).of_images(classes, weight=1.0)
    for concept in concepts():
        for number in concept.classes:
            for token in vocabulary.encode(concept.words):
                assert preferences[number].gains[token] > 0, (concept, number)


def test_units_of_words_are_no_words() -> None:
    """A learned tokenizer's "car" may be a part of "scarf"; without any word there is nothing to prefer."""
    units = ClassPreferences(Vocabulary(["▁a", "▁dog", "s", "car", "f"]))
    assert not units.has_words
    assert units.of_images(np.eye(1000)[:1], weight=3.0)[0].gains == {}
    assert ClassPreferences(Vocabulary(["a", "dog", "s", "car"])).has_words
    assert not ClassPreferences(Vocabulary(["un", "chien"])).has_words
