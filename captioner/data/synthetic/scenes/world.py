"""The content of the scenes: colors, places and kinds of object, and what goes together.

Layout, drawing and captions share this table. A new kind needs one entry here, one drawing function in `animals`,
`vehicles` or `things`, and one entry in `words`; a test names whichever is missing.
"""

from __future__ import annotations

from dataclasses import dataclass

COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")

PLACES = ("beach", "field", "street", "snow", "water", "night", "room")

OUTDOORS = ("beach", "field", "street", "snow", "night")

# (color, place) pairs that are not generated, because the object would blend into its surroundings.
CAMOUFLAGE = frozenset({("white", "snow"), ("black", "night"), ("blue", "water")})


@dataclass(frozen=True)
class Kind:
    """One kind of object.

    width, height: of its drawing, in the drawing's own units; the bounding box has the same proportions.
    scale: its size relative to other kinds.
    home: "ground" (it stands, or floats on water), "air", "float" (on water) or "swim" (in water).
    places: where it may occur.
    textures: possible surfaces besides plain.
    seat: (x, y) as fractions of its box, where another object may sit on it; None if none can.
    shelter: the fraction of its height that is free beneath it; 0 if nothing fits under it.
    """

    name: str
    width: float
    height: float
    scale: float
    home: str
    places: tuple[str, ...]
    textures: tuple[str, ...] = ()
    seat: tuple[float, float] | None = None
    shelter: float = 0.0


_KINDS = (
    Kind("cat", 80, 100, 1.0, "ground", (*OUTDOORS, "room"), ("striped", "spotted")),
    Kind("dog", 120, 91, 1.0, "ground", (*OUTDOORS, "room"), ("spotted",)),
    Kind("bird", 116, 90, 0.85, "air", (*OUTDOORS, "water")),
    Kind("fish", 120, 74, 0.95, "swim", ("water",), ("striped", "spotted")),
    Kind("horse", 136, 120, 1.2, "ground", OUTDOORS, ("spotted",), (0.52, 0.37)),
    Kind("elephant", 140, 104, 1.3, "ground", OUTDOORS, (), (0.40, 0.10)),
    Kind("butterfly", 110, 90, 0.8, "air", ("beach", "field", "street", "room"), ("spotted",)),
    Kind("rabbit", 106, 110, 0.9, "ground", ("beach", "field", "snow", "night", "room"), ("spotted",)),
    Kind("turtle", 128, 90, 0.9, "ground", ("beach", "field", "street", "night"), ("spotted",)),
    Kind("duck", 112, 96, 0.9, "ground", ("beach", "field", "snow", "water")),
    Kind("car", 150, 66, 1.25, "ground", OUTDOORS, (), (0.50, 0.03)),
    Kind("bus", 160, 86, 1.4, "ground", OUTDOORS, ("striped",), (0.50, 0.02)),
    Kind("train", 162, 100, 1.35, "ground", ("field", "street", "snow", "night")),
    Kind("boat", 120, 124, 1.2, "float", ("water",), ("striped",)),
    Kind("bicycle", 144, 92, 1.1, "ground", (*OUTDOORS, "room")),
    Kind("plane", 160, 74, 1.2, "air", (*OUTDOORS, "water"), ("striped",)),
    Kind("ball", 100, 100, 0.75, "ground", (*OUTDOORS, "water", "room"), ("striped", "spotted")),
    Kind("tree", 96, 130, 1.4, "ground", OUTDOORS, (), None, 0.36),
    Kind("house", 124, 120, 1.45, "ground", OUTDOORS),
    Kind("umbrella", 124, 120, 1.15, "ground", (*OUTDOORS, "room"), ("striped", "spotted"), None, 0.55),
    Kind("balloon", 66, 130, 1.1, "air", (*OUTDOORS, "water", "room"), ("striped", "spotted")),
    Kind("cup", 104, 90, 0.8, "ground", ("beach", "field", "room"), ("striped", "spotted")),
    Kind("flower", 76, 124, 0.95, "ground", ("beach", "field", "street", "night", "room")),
    Kind("chair", 72, 116, 1.1, "ground", ("beach", "field", "street", "snow", "room"), (), (0.50, 0.56)),
    Kind("apple", 96, 98, 0.7, "ground", ("beach", "field", "snow", "room"), ("striped", "spotted")),
    Kind("mushroom", 102, 104, 0.85, "ground", ("field", "snow", "night"), ("spotted",)),
    Kind("table", 144, 84, 1.2, "ground", ("beach", "field", "snow", "room"), (), (0.50, 0.02), 0.72),
    Kind("kite", 84, 140, 1.1, "air", ("beach", "field", "snow", "night"), ("striped",)),
)

KINDS: dict[str, Kind] = {kind.name: kind for kind in _KINDS}

RELATIONS = ("left of", "right of", "above", "below", "on", "under", "in front of", "between")
"""Relations of the main object to the other one; "between" is between two objects of the other kind."""

SITTERS = ("cat", "dog", "bird", "rabbit", "duck", "ball", "cup", "butterfly", "apple")
"""Kinds that may be on a seat."""

SHELTERED = ("cat", "dog", "bird", "rabbit", "turtle", "duck", "ball", "cup", "flower", "chair", "apple", "mushroom")
"""Kinds that may be under a shelter."""

LANDMARKS = ("house", "tree", "bus", "train", "elephant")
"""Kinds that are large enough to be behind another object."""


def kind_stance(kind: str, place: str) -> str:
    """The stance of an object of `kind` in `place`: "ground", "air", "float" or "swim"."""
    home = KINDS[kind].home
    return "float" if place == "water" and home == "ground" else home


def partners(kind: str, place: str) -> list[str]:
    """The other kinds that can have a relation to an object of `kind` in `place`."""
    return [
        other
        for other in KINDS
        if other != kind
        and place in KINDS[other].places
        and any(possible(kind, relation, other, place) for relation in RELATIONS)
    ]


def possible(kind: str, relation: str, other: str, place: str) -> bool:
    """Whether an object of `kind` may have this relation to one of `other` in `place`."""
    here, there = kind_stance(kind, place), kind_stance(other, place)
    if relation in ("left of", "right of", "between"):
        return here == there
    if relation == "above":
        return (here, there) in {("air", "ground"), ("air", "float"), ("air", "swim"), ("float", "swim")}
    if relation == "below":
        return possible(other, "above", kind, place)
    if relation == "on":
        return kind in SITTERS and KINDS[other].seat is not None and there == "ground"
    if relation == "under":
        return kind in SHELTERED and KINDS[other].shelter > 0 and there == "ground"
    if relation == "in front of":
        return other in LANDMARKS and here == there == "ground" and kind not in LANDMARKS
    raise ValueError(f"unknown relation {relation!r}")
