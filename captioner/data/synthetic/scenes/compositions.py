"""The combinations that are held out of training, so that the test split measures compositional generalization.

There are three types: a color with a kind ("red", "cat"), a relation of two kinds ("cat", "on", "chair"), and a number
with a kind ("five", "cat"). Each belongs to train, or only to val, or only to test. This is independent of the seed, so
results on different seeds are comparable. Every single word occurs in train.
"""

from __future__ import annotations

import zlib

from captioner.data.synthetic.scenes.world import COLORS, KINDS

Composition = tuple[str, ...]

NUMBERS = ("zero", "one", "two", "three", "four", "five")

_KIND_NAMES = tuple(KINDS)


def related(kind: str, relation: str, other: str) -> Composition:
    """A unique name for equivalent relations: "a below b" is "b above a", left of and right of are "beside"."""
    if relation == "below":
        return (other, "above", kind)
    if relation in ("left of", "right of"):
        first, second = sorted((kind, other))
        return (first, "beside", second)
    return (kind, relation, other)


def reserved_for(composition: Composition) -> str | None:
    """`val` or `test` for a combination that occurs only in that split; None for one that may occur in any split.

    For each kind, one of the ten colors is reserved for test and one for val, and at most one of the four numbers (two
    to five). One in ten relations is reserved for test, and one in ten for val.
    """
    first, last = composition[0], composition[-1]
    if first in COLORS:
        slot = COLORS.index(first) + 3 * _KIND_NAMES.index(last)
    elif first in NUMBERS:
        slot = NUMBERS.index(first) + 3 * _KIND_NAMES.index(last)
    else:
        slot = zlib.crc32(" ".join(composition).encode())
    return {0: "test", 5: "val"}.get(slot % 10)
