"""Everyday words for the classes of ImageNet: what a classifier sees, in the words of captions.

`class_words.txt` has the table and its rules.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float

CLASSES = 1000  # of ImageNet (ILSVRC 2012)

IRREGULAR_PLURALS = frozenset({"cattle", "geese"})

TEMPERATURE = 0.5
"""Logits are divided by this: a network that learned from smoothed labels gives the right class too little (Guo et al.
2017, section 4.2, temperature scaling)."""


@dataclass(frozen=True)
class Concept:
    """Something that captions name.

    words: the words for it, the usual one first. classes: the numbers of the ImageNet classes that show it. kind: the
    section of the table, such as "animals".
    """

    words: tuple[str, ...]
    classes: tuple[int, ...]
    kind: str

    @property
    def word(self) -> str:
        """The usual word."""
        return self.words[0]

    def is_plural(self, word: str) -> bool:
        """Whether one of the words is a plural: its singular is another one, or it has none that is regular."""
        singulars = (word.removesuffix("s"), word.removesuffix("es"), word.removesuffix("ies") + "y")
        return word in IRREGULAR_PLURALS or any(one in self.words for one in singulars if one != word)


class Tag(NamedTuple):
    """Something that the encoder's classifier sees in an image.

    word: the everyday word for it. probability: from 0 to 1, after sharpening; the classifier looks for one thing, so
    a small object beside a large one has little. region: (row, column), counted from 0, of the region that speaks most
    for it. grid: (rows, columns) of all regions.
    """

    word: str
    probability: float
    region: tuple[int, int]
    grid: tuple[int, int]


@cache
def concepts() -> tuple[Concept, ...]:
    """All concepts of the table."""
    text = files("captioner.text").joinpath("class_words.txt").read_text(encoding="utf-8")
    found, kind = [], ""
    for line in text.splitlines():
        if line.startswith("["):
            kind = line.strip("[]")
        elif line.strip() and not line.startswith("#"):
            words, _, classes = line.partition(":")
            names = tuple(word.strip() for word in words.split(","))
            found.append(Concept(names, tuple(sorted(_numbers(classes.split()))), kind))
    return tuple(found)


def concept_probabilities(classes: Float[np.ndarray, "B 1000"]) -> Float[np.ndarray, "B C"]:
    """Class probabilities of B images → those of the C `concepts`: the sums over their classes."""
    summed: np.ndarray = classes @ membership().T
    return summed


def sharpen(classes: Float[np.ndarray, "B 1000"]) -> Float[np.ndarray, "B 1000"]:
    """softmax(logits) → softmax(logits / TEMPERATURE), in double precision."""
    powers = (classes / classes.max(axis=1, keepdims=True)).astype(np.float64) ** (1 / TEMPERATURE)
    sharpened: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
    return sharpened


@cache
def membership() -> Float[np.ndarray, "C 1000"]:
    """1 where a class belongs to a concept, else 0."""
    table = np.zeros((len(concepts()), CLASSES), np.float32)
    for row, concept in zip(table, concepts(), strict=True):
        row[list(concept.classes)] = 1
    return table


def _numbers(ranges: Iterable[str]) -> Iterable[int]:
    for part in ranges:
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)
