"""Which combinations are kept out of training: what makes the test split a test of composing.

Three sorts of combination: a color with a kind ("red", "cat"), a relation of two kinds ("cat", "on",
"chair"), and a number with a kind ("five", "cat"). Each belongs to the training images, or to the
validation split alone, or to the test split alone. Which one is fixed for ever and does not depend on
the seed, so that results on different seeds can be compared. Every single word occurs in training.
"""

from __future__ import annotations

import zlib

from captioner.data.synthetic.scenes.world import COLORS, KINDS

Composition = tuple[str, ...]

NUMBERS = ("zero", "one", "two", "three", "four", "five")

_KIND_NAMES = tuple(KINDS)


def related(kind: str, relation: str, other: str) -> Composition:
    """One name for a fact that can be said two ways: "a below b" is "b above a", left and right are "beside"."""
    if relation == "below":
        return (other, "above", kind)
    if relation in ("left of", "right of"):
        first, second = sorted((kind, other))
        return (first, "beside", second)
    return (kind, relation, other)


def reserved_for(composition: Composition) -> str | None:
    """`val` or `test` for a combination that occurs in that split only; None for one that may occur anywhere.

    Of its ten colors every kind has one that is reserved for test and one for val; of its four numbers (two to
    five) one at the most; of all relations one in ten is reserved for each.
    """
    first, last = composition[0], composition[-1]
    if first in COLORS:
        slot = COLORS.index(first) + 3 * _KIND_NAMES.index(last)
    elif first in NUMBERS:
        slot = NUMBERS.index(first) + 3 * _KIND_NAMES.index(last)
    else:
        slot = zlib.crc32(" ".join(composition).encode())
    return {0: "test", 5: "val"}.get(slot % 10)
