"""What is in a scene and where: drawn by lot from a seed, before anything is painted or said.

Distances are pixels of the finished image, from the top left corner. Everything a sentence may say is
decided here; clouds, stones and other clutter are the painter's own and nobody mentions them.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from captioner.data.synthetic.scenes.compositions import NUMBERS, Composition, related, reserved_for
from captioner.data.synthetic.scenes.world import CAMOUFLAGE, COLORS, KINDS, RELATIONS, partners, possible, stance

IMAGE_SIZE = 256
"""Height and width of every image."""

MARGIN = 5.0
FLOOR = IMAGE_SIZE - 8.0

_HORIZONS = {"beach": 112, "field": 116, "street": 128, "snow": 118, "water": 96, "night": 140, "room": 166}

# How often a relation is chosen where several are possible; 1 where it is not listed.
_SHARES = {"on": 8.0, "under": 8.0, "in front of": 5.0, "between": 1.5}

# The longest side in pixels, before the kind's own scale.
_ALONE = {"small": 60.0, "medium": 104.0, "large": 168.0}
_IN_PAIR = {"small": 56.0, "medium": 84.0, "large": 118.0}
_IN_GROUP = {2: 98.0, 3: 76.0, 4: 66.0, 5: 60.0}


@dataclass(frozen=True)
class Look:
    """What an object is: all that can be said of it alone. size: "small", "medium" (never mentioned) or "large"."""

    kind: str
    color: str
    texture: str = "plain"
    size: str = "medium"


@dataclass(frozen=True)
class Spot:
    """Where an object is. mirrored: it faces right instead of left."""

    left: float
    top: float
    width: float
    height: float
    flipped: bool = False

    @property
    def bottom(self) -> float:
        return self.top + self.height

    @property
    def centre(self) -> float:
        return self.left + self.width / 2


@dataclass(frozen=True)
class Scene:
    """An image before it is painted.

    main: what the image shows first, at each of `main_spots` (one to five). Where `relation` is not None,
    it holds between every main spot and the `other_spots` ("between": two of them) of `other`.
    horizon: the row where the ground, the water or the floor begins.
    """

    place: str
    horizon: float
    main: Look
    main_spots: tuple[Spot, ...]
    relation: str | None = None
    other: Look | None = None
    other_spots: tuple[Spot, ...] = ()

    def things(self) -> Iterator[tuple[Look, Spot]]:
        """Every object with its spot, the main ones first."""
        for spot in self.main_spots:
            yield self.main, spot
        if self.other is not None:
            for spot in self.other_spots:
                yield self.other, spot

    def stance_of(self, look: Look) -> str:
        """How this object is held: "ground", "air", "float" or "swim"; what is on or under another stands."""
        if look is self.main and self.relation in ("on", "under"):
            return "ground"
        return stance(look.kind, self.place)

    def compositions(self) -> frozenset[Composition]:
        """Every combination this scene shows (see `compositions`)."""
        found: set[Composition] = {(look.color, look.kind) for look in (self.main, self.other) if look is not None}
        if len(self.main_spots) > 1:
            found.add((NUMBERS[len(self.main_spots)], self.main.kind))
        if self.other is not None and self.relation is not None:
            found.add(related(self.main.kind, self.relation, self.other.kind))
            if len(self.other_spots) > 1:
                found.add((NUMBERS[len(self.other_spots)], self.other.kind))
        return frozenset(found)

    @property
    def held_out(self) -> bool:
        """True where it shows a combination that no training image shows."""
        return any(reserved_for(composition) for composition in self.compositions())


def sample_scene(rng: random.Random, split: str) -> Scene:
    """A scene that may stand in `split`: in training none of the reserved combinations, elsewhere none of
    another split's; every second scene of val and test shows at least one of its own.
    """
    wants_new = split != "train" and rng.random() < 0.5
    while True:
        scene = _any_scene(rng)
        owners = {reserved_for(composition) for composition in scene.compositions()} - {None}
        if owners <= {split} and bool(owners) == wants_new:
            return scene


def _any_scene(rng: random.Random) -> Scene:
    kind = rng.choice(tuple(KINDS))
    place = rng.choice(KINDS[kind].places)
    horizon = _HORIZONS[place] + rng.uniform(-8, 8)
    arrangement = rng.choices(("alone", "group", "pair"), (0.24, 0.22, 0.54))[0]
    if arrangement == "pair":
        other = rng.choice(partners(kind, place))
        relations = [relation for relation in RELATIONS if possible(kind, relation, other, place)]
        relation = rng.choices(relations, [_SHARES.get(relation, 1.0) for relation in relations])[0]
        return _pair(rng, place, horizon, kind, relation, other)
    if arrangement == "group":
        count = rng.randint(2, 5)
        look = _look(rng, kind, place, "medium")
        return Scene(place, horizon, look, _row_spots(rng, look, count, stance(kind, place), horizon))
    size = rng.choice(tuple(_ALONE))
    look = _look(rng, kind, place, size)
    width, height = _extent(kind, _ALONE[size], most_wide=230, most_high=225)
    left = rng.uniform(MARGIN, IMAGE_SIZE - MARGIN - width)
    top = _level(rng, stance(kind, place), height, horizon)
    return Scene(place, horizon, look, (Spot(left, top, width, height, rng.random() < 0.5),))


def _look(rng: random.Random, kind: str, place: str, size: str, unlike: str | None = None) -> Look:
    colors = [color for color in COLORS if (color, place) not in CAMOUFLAGE and color != unlike]
    textures = KINDS[kind].textures
    texture = rng.choice(textures) if textures and rng.random() < 0.35 else "plain"
    return Look(kind, rng.choice(colors), texture, size)


def _extent(kind: str, longest: float, most_wide: float, most_high: float) -> tuple[float, float]:
    """Width and height with the kind's proportions: `longest` times its scale, or less where that does not fit."""
    about = KINDS[kind]
    factor = min(
        longest * about.scale / max(about.width, about.height), most_wide / about.width, most_high / about.height
    )
    return about.width * factor, about.height * factor


def _level(rng: random.Random, held: str, height: float, horizon: float) -> float:
    """The top of an object of this height that stands, flies, floats or swims."""
    if held == "air":
        return rng.uniform(MARGIN, max(MARGIN, min(horizon - 0.5 * height, FLOOR - 40 - height)))
    if held == "swim":
        lowest = FLOOR - height
        return rng.uniform(min(horizon + 8, lowest), lowest)
    feet = rng.uniform(max(horizon + 16, height + MARGIN), FLOOR)
    return feet - height


def _row_spots(rng: random.Random, look: Look, count: int, held: str, horizon: float) -> tuple[Spot, ...]:
    """Up to three side by side; the fourth and the fifth farther away, in the gaps between the first three."""
    near, far = min(count, 3), max(count - 3, 0)
    width, height = _extent(look.kind, _IN_GROUP[count], most_wide=236 / near - 4, most_high=110)
    step = height + 8 if held in ("air", "swim") else max(44.0, 0.7 * height)
    if held in ("air", "swim"):
        top = _level(rng, held, height + (step if far else 0), horizon) + (step if far else 0)
    else:
        top = rng.uniform(max(horizon + 20 + (step if far else 0), height + MARGIN), FLOOR) - height
    column = (IMAGE_SIZE - 2 * MARGIN) / near
    slack = column - width
    places = [(MARGIN + index * column + slack * rng.uniform(0.35, 0.65), top) for index in range(near)]
    gaps = [MARGIN + (index + 1) * column - width / 2 for index in range(2)]
    places += [(gap, top - step) for gap in rng.sample(gaps, far)]
    flipped = rng.random() < 0.5
    return tuple(_inside(Spot(left, level + rng.uniform(-4, 4), width, height, flipped)) for left, level in places)


def _pair(rng: random.Random, place: str, horizon: float, kind: str, relation: str, other: str) -> Scene:
    sizes = ("medium", "medium")
    if relation in ("left of", "right of", "above", "below"):
        sizes = (rng.choice(tuple(_IN_PAIR)), rng.choice(tuple(_IN_PAIR)))
    main = _look(rng, kind, place, sizes[0])
    beside = _look(rng, other, place, sizes[1], unlike=main.color)
    held = stance(kind, place)
    if relation in ("left of", "right of"):
        ordered = (main, beside) if relation == "left of" else (beside, main)
        spots = _side_by_side(rng, ordered, held, horizon)
        mine, theirs = spots if relation == "left of" else spots[::-1]
        return Scene(place, horizon, main, (mine,), relation, beside, (theirs,))
    if relation in ("above", "below"):
        upper, lower = (main, beside) if relation == "above" else (beside, main)
        high, low = _one_above_the_other(rng, upper, lower, place, horizon)
        mine, theirs = (high, low) if relation == "above" else (low, high)
        return Scene(place, horizon, main, (mine,), relation, beside, (theirs,))
    if relation == "between":
        mine, pair = _in_the_middle(rng, main, beside, held, horizon)
        return Scene(place, horizon, main, (mine,), relation, beside, pair)
    placed = {"on": _seated, "under": _sheltered, "in front of": _in_front}[relation]
    mine, theirs = placed(rng, kind, other)
    return Scene(place, horizon, main, (mine,), relation, beside, (theirs,))


def _side_by_side(rng: random.Random, looks: tuple[Look, Look], held: str, horizon: float) -> tuple[Spot, Spot]:
    extents = [_extent(look.kind, _IN_PAIR[look.size], most_wide=114, most_high=190) for look in looks]
    slack = IMAGE_SIZE - 2 * MARGIN - sum(width for width, _ in extents)
    before, gap = rng.uniform(0.1, 0.4) * slack, rng.uniform(0.2, 0.45) * slack
    tallest = max(height for _, height in extents)
    bottom = _level(rng, held, tallest, horizon) + tallest
    lefts = (MARGIN + before, MARGIN + before + extents[0][0] + gap)
    first, second = (
        Spot(left, bottom - height - rng.uniform(0, 6), width, height, rng.random() < 0.5)
        for left, (width, height) in zip(lefts, extents, strict=True)
    )
    return _inside(first), _inside(second)


def _one_above_the_other(rng: random.Random, upper: Look, lower: Look, place: str, horizon: float) -> tuple[Spot, Spot]:
    low_width, low_height = _extent(lower.kind, _IN_PAIR[lower.size], most_wide=150, most_high=126)
    bottom = rng.uniform(max(FLOOR - 14, horizon + 20), FLOOR)
    if stance(upper.kind, place) == "float":  # a boat over a fish: the fish is near the bottom, the boat afloat
        high_width, high_height = _extent(upper.kind, _IN_PAIR[upper.size], most_wide=150, most_high=120)
        low_width, low_height = _extent(lower.kind, _IN_PAIR[lower.size], most_wide=150, most_high=70)
        top = max(MARGIN, horizon + 34 - high_height)
    else:
        room = bottom - low_height - 10 - MARGIN
        high_width, high_height = _extent(upper.kind, _IN_PAIR[upper.size], most_wide=150, most_high=min(110, room))
        top = rng.uniform(MARGIN, MARGIN + 0.6 * (room - high_height))
    widest = max(low_width, high_width)
    centre = rng.uniform(MARGIN + widest / 2, IMAGE_SIZE - MARGIN - widest / 2)
    high = Spot(centre - high_width / 2, top, high_width, high_height, rng.random() < 0.5)
    low = Spot(centre - low_width / 2, bottom - low_height, low_width, low_height, rng.random() < 0.5)
    return high, low


def _in_the_middle(
    rng: random.Random, main: Look, beside: Look, held: str, horizon: float
) -> tuple[Spot, tuple[Spot, Spot]]:
    width, height = _extent(main.kind, 70, most_wide=74, most_high=130)
    other_width, other_height = _extent(beside.kind, 78, most_wide=74, most_high=150)
    tallest = max(height, other_height)
    bottom = _level(rng, held, tallest, horizon) + tallest
    middle = IMAGE_SIZE / 2 + rng.uniform(-4, 4)
    mine = Spot(middle - width / 2, bottom - height, width, height, rng.random() < 0.5)
    left = Spot(MARGIN + rng.uniform(0, 4), bottom - other_height, other_width, other_height)
    right = Spot(
        IMAGE_SIZE - MARGIN - rng.uniform(0, 4) - other_width, bottom - other_height, other_width, other_height, True
    )
    return mine, (left, right)


def _seated(rng: random.Random, kind: str, other: str) -> tuple[Spot, Spot]:
    seat = KINDS[other].seat
    assert seat is not None
    base_width, base_height = _extent(other, 118, most_wide=200, most_high=160)
    bottom = rng.uniform(FLOOR - 12, FLOOR)
    left = rng.uniform(MARGIN, IMAGE_SIZE - MARGIN - base_width)
    base = Spot(left, bottom - base_height, base_width, base_height, rng.random() < 0.5)
    across = 1 - seat[0] if base.flipped else seat[0]
    level = base.top + seat[1] * base_height
    width, height = _extent(kind, 62, most_wide=80, most_high=level - MARGIN)
    spot = Spot(base.left + across * base_width - width / 2, level - height, width, height, rng.random() < 0.5)
    return _inside(spot), base


def _sheltered(rng: random.Random, kind: str, other: str) -> tuple[Spot, Spot]:
    roof_width, roof_height = _extent(other, 170, most_wide=220, most_high=205)
    bottom = rng.uniform(FLOOR - 10, FLOOR - 2)
    left = rng.uniform(MARGIN, IMAGE_SIZE - MARGIN - roof_width)
    roof = Spot(left, bottom - roof_height, roof_width, roof_height, rng.random() < 0.5)
    free = KINDS[other].shelter * roof_height * 0.94
    width, height = _extent(kind, 90, most_wide=0.5 * roof_width, most_high=free)
    centre = roof.centre + rng.uniform(-0.18, 0.18) * roof_width
    return _inside(Spot(centre - width / 2, bottom - height + 3, width, height, rng.random() < 0.5)), roof


def _in_front(rng: random.Random, kind: str, other: str) -> tuple[Spot, Spot]:
    back_width, back_height = _extent(other, 128, most_wide=190, most_high=180)
    bottom = rng.uniform(FLOOR - 34, FLOOR - 24)
    left = rng.uniform(MARGIN, IMAGE_SIZE - MARGIN - back_width)
    back = Spot(left, bottom - back_height, back_width, back_height, rng.random() < 0.5)
    width, height = _extent(kind, 62, most_wide=0.62 * back_width, most_high=0.55 * back_height)
    centre = back.centre + rng.uniform(-0.25, 0.25) * back_width
    return _inside(Spot(centre - width / 2, bottom + 18 - height, width, height, rng.random() < 0.5)), back


def _inside(spot: Spot) -> Spot:
    """The same spot, moved into the image where it stuck out."""
    left = min(max(spot.left, MARGIN), IMAGE_SIZE - MARGIN - spot.width)
    top = min(max(spot.top, MARGIN), IMAGE_SIZE - MARGIN - spot.height)
    return Spot(left, top, spot.width, spot.height, spot.flipped)
