"""What is in a scene and where: sampled from a seed, before it is drawn and captioned.

Distances are in pixels of the final image, from the top left corner. Everything that a caption may mention is decided
here. Clouds, stones and other clutter are added by the drawing, and no caption mentions them.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from captioner.data.synthetic.scenes.compositions import NUMBERS, Composition, related, reserved_for
from captioner.data.synthetic.scenes.world import CAMOUFLAGE, COLORS, KINDS, RELATIONS, kind_stance, partners, possible

IMAGE_SIZE = 256
"""Height and width of every image."""

MARGIN = 5.0
FLOOR = IMAGE_SIZE - 8.0

_HORIZONS = {"beach": 112, "field": 116, "street": 128, "snow": 118, "water": 96, "night": 140, "room": 166}

# Weights with which relations are sampled; 1 for relations that are not listed.
_RELATION_WEIGHTS = {"on": 8.0, "under": 8.0, "in front of": 5.0, "between": 1.5}

# Length of the longer side in pixels, before the scale of the kind.
_ALONE = {"small": 60.0, "medium": 104.0, "large": 168.0}
_IN_PAIR = {"small": 56.0, "medium": 84.0, "large": 118.0}
_IN_GROUP = {2: 98.0, 3: 76.0, 4: 66.0, 5: 60.0}


@dataclass(frozen=True)
class Appearance:
    """Kind, color, texture and size of an object. size: "small", "medium" (never mentioned in captions) or "large"."""

    kind: str
    color: str
    texture: str = "plain"
    size: str = "medium"


@dataclass(frozen=True)
class Placement:
    """The bounding box of an object. flipped: it faces right instead of left."""

    left: float
    top: float
    width: float
    height: float
    flipped: bool = False

    @property
    def bottom(self) -> float:
        return self.top + self.height

    @property
    def center(self) -> float:
        return self.left + self.width / 2


@dataclass(frozen=True)
class Scene:
    """The content of an image.

    main: the main object, which is at each of `main_placements` (one to five).
    relation: between each main object and the objects at `other_placements` (two for "between"), which look like
        `other`; None for a scene without another object.
    horizon: the row of pixels where the ground, the water or the floor begins.
    """

    place: str
    horizon: float
    main: Appearance
    main_placements: tuple[Placement, ...]
    relation: str | None = None
    other: Appearance | None = None
    other_placements: tuple[Placement, ...] = ()

    def objects(self) -> Iterator[tuple[Appearance, Placement]]:
        """(appearance, placement) of every object, the main ones first."""
        for placement in self.main_placements:
            yield self.main, placement
        if self.other is not None:
            for placement in self.other_placements:
                yield self.other, placement

    def stance_of(self, appearance: Appearance) -> str:
        """The stance of this object: "ground", "air", "float" or "swim"; "ground" for what is on or under another."""
        if appearance is self.main and self.relation in ("on", "under"):
            return "ground"
        return kind_stance(appearance.kind, self.place)

    def compositions(self) -> frozenset[Composition]:
        """All combinations that this scene shows (see `compositions`)."""
        found: set[Composition] = {
            (appearance.color, appearance.kind) for appearance in (self.main, self.other) if appearance is not None
        }
        if len(self.main_placements) > 1:
            found.add((NUMBERS[len(self.main_placements)], self.main.kind))
        if self.other is not None and self.relation is not None:
            found.add(related(self.main.kind, self.relation, self.other.kind))
            if len(self.other_placements) > 1:
                found.add((NUMBERS[len(self.other_placements)], self.other.kind))
        return frozenset(found)

    @property
    def held_out(self) -> bool:
        """Whether it shows a combination that no training image shows."""
        return any(reserved_for(composition) for composition in self.compositions())


def sample_scene(rng: random.Random, split: str) -> Scene:
    """A random scene for `split`.

    Scenes of train show no reserved combination. Half of the scenes of val and test show at least one combination that
    is reserved for their split, and none that is reserved for another.
    """
    is_held_out = split != "train" and rng.random() < 0.5
    while True:
        scene = _any_scene(rng)
        owners = {reserved_for(composition) for composition in scene.compositions()} - {None}
        if owners <= {split} and bool(owners) == is_held_out:
            return scene


def _any_scene(rng: random.Random) -> Scene:
    kind = rng.choice(tuple(KINDS))
    place = rng.choice(KINDS[kind].places)
    horizon = _HORIZONS[place] + rng.uniform(-8, 8)
    arrangement = rng.choices(("alone", "group", "pair"), (0.24, 0.22, 0.54))[0]
    if arrangement == "pair":
        other = rng.choice(partners(kind, place))
        relations = [relation for relation in RELATIONS if possible(kind, relation, other, place)]
        relation = rng.choices(relations, [_RELATION_WEIGHTS.get(relation, 1.0) for relation in relations])[0]
        return _pair(rng, place, horizon, kind, relation, other)
    if arrangement == "group":
        count = rng.randint(2, 5)
        appearance = _sample_appearance(rng, kind, place, "medium")
        return Scene(
            place, horizon, appearance, _row_placements(rng, appearance, count, kind_stance(kind, place), horizon)
        )
    size = rng.choice(tuple(_ALONE))
    appearance = _sample_appearance(rng, kind, place, size)
    width, height = _extent(kind, _ALONE[size], most_wide=230, most_high=225)
    left = rng.uniform(MARGIN, IMAGE_SIZE - MARGIN - width)
    top = _level(rng, kind_stance(kind, place), height, horizon)
    return Scene(place, horizon, appearance, (Placement(left, top, width, height, rng.random() < 0.5),))


def _sample_appearance(rng: random.Random, kind: str, place: str, size: str, unlike: str | None = None) -> Appearance:
    colors = [color for color in COLORS if (color, place) not in CAMOUFLAGE and color != unlike]
    textures = KINDS[kind].textures
    texture = rng.choice(textures) if textures and rng.random() < 0.35 else "plain"
    return Appearance(kind, rng.choice(colors), texture, size)


def _extent(kind: str, longest: float, most_wide: float, most_high: float) -> tuple[float, float]:
    """(width, height) with the kind's proportions: `longest` times its scale, or less if that does not fit."""
    about = KINDS[kind]
    factor = min(
        longest * about.scale / max(about.width, about.height), most_wide / about.width, most_high / about.height
    )
    return about.width * factor, about.height * factor


def _level(rng: random.Random, stance: str, height: float, horizon: float) -> float:
    """A random top coordinate for an object with this height and stance."""
    if stance == "air":
        return rng.uniform(MARGIN, max(MARGIN, min(horizon - 0.5 * height, FLOOR - 40 - height)))
    if stance == "swim":
        lowest = FLOOR - height
        return rng.uniform(min(horizon + 8, lowest), lowest)
    feet = rng.uniform(max(horizon + 16, height + MARGIN), FLOOR)
    return feet - height


def _row_placements(
    rng: random.Random, appearance: Appearance, count: int, stance: str, horizon: float
) -> tuple[Placement, ...]:
    """Up to three objects side by side; the fourth and fifth farther away, in the gaps between the first three."""
    near, far = min(count, 3), max(count - 3, 0)
    width, height = _extent(appearance.kind, _IN_GROUP[count], most_wide=236 / near - 4, most_high=110)
    step = height + 8 if stance in ("air", "swim") else max(44.0, 0.7 * height)
    if stance in ("air", "swim"):
        top = _level(rng, stance, height + (step if far else 0), horizon) + (step if far else 0)
    else:
        top = rng.uniform(max(horizon + 20 + (step if far else 0), height + MARGIN), FLOOR) - height
    column = (IMAGE_SIZE - 2 * MARGIN) / near
    slack = column - width
    places = [(MARGIN + index * column + slack * rng.uniform(0.35, 0.65), top) for index in range(near)]
    gaps = [MARGIN + (index + 1) * column - width / 2 for index in range(2)]
    places += [(gap, top - step) for gap in rng.sample(gaps, far)]
    flipped = rng.random() < 0.5
    return tuple(_inside(Placement(left, level + rng.uniform(-4, 4), width, height, flipped)) for left, level in places)


def _pair(rng: random.Random, place: str, horizon: float, kind: str, relation: str, other: str) -> Scene:
    sizes = ("medium", "medium")
    if relation in ("left of", "right of", "above", "below"):
        sizes = (rng.choice(tuple(_IN_PAIR)), rng.choice(tuple(_IN_PAIR)))
    main = _sample_appearance(rng, kind, place, sizes[0])
    other_appearance = _sample_appearance(rng, other, place, sizes[1], unlike=main.color)
    stance = kind_stance(kind, place)
    if relation in ("left of", "right of"):
        ordered = (main, other_appearance) if relation == "left of" else (other_appearance, main)
        placements = _side_by_side(rng, ordered, stance, horizon)
        main_placement, other_placement = placements if relation == "left of" else placements[::-1]
        return Scene(place, horizon, main, (main_placement,), relation, other_appearance, (other_placement,))
    if relation in ("above", "below"):
        upper, lower = (main, other_appearance) if relation == "above" else (other_appearance, main)
        high, low = _one_above_the_other(rng, upper, lower, place, horizon)
        main_placement, other_placement = (high, low) if relation == "above" else (low, high)
        return Scene(place, horizon, main, (main_placement,), relation, other_appearance, (other_placement,))
    if relation == "between":
        main_placement, pair = _in_the_middle(rng, main, other_appearance, stance, horizon)
        return Scene(place, horizon, main, (main_placement,), relation, other_appearance, pair)
    placed = {"on": _seated, "under": _sheltered, "in front of": _in_front}[relation]
    main_placement, other_placement = placed(rng, kind, other)
    return Scene(place, horizon, main, (main_placement,), relation, other_appearance, (other_placement,))


def _side_by_side(
    rng: random.Random, appearances: tuple[Appearance, Appearance], stance: str, horizon: float
) -> tuple[Placement, Placement]:
    extents = [
        _extent(appearance.kind, _IN_PAIR[appearance.size], most_wide=114, most_high=190) for appearance in appearances
    ]
    slack = IMAGE_SIZE - 2 * MARGIN - sum(width for width, _ in extents)
    before, gap = rng.uniform(0.1, 0.4) * slack, rng.uniform(0.2, 0.45) * slack
    tallest = max(height for _, height in extents)
    bottom = _level(rng, stance, tallest, horizon) + tallest
    lefts = (MARGIN + before, MARGIN + before + extents[0][0] + gap)
    first, second = (
        Placement(left, bottom - height - rng.uniform(0, 6), width, height, rng.random() < 0.5)
        for left, (width, height) in zip(lefts, extents, strict=True)
    )
    return _inside(first), _inside(second)


def _one_above_the_other(
    rng: random.Random, upper: Appearance, lower: Appearance, place: str, horizon: float
) -> tuple[Placement, Placement]:
    low_width, low_height = _extent(lower.kind, _IN_PAIR[lower.size], most_wide=150, most_high=126)
    bottom = rng.uniform(max(FLOOR - 14, horizon + 20), FLOOR)
    if kind_stance(upper.kind, place) == "float":  # a boat above a fish
        high_width, high_height = _extent(upper.kind, _IN_PAIR[upper.size], most_wide=150, most_high=120)
        low_width, low_height = _extent(lower.kind, _IN_PAIR[lower.size], most_wide=150, most_high=70)
        top = max(MARGIN, horizon + 34 - high_height)
    else:
        room = bottom - low_height - 10 - MARGIN
        high_width, high_height = _extent(upper.kind, _IN_PAIR[upper.size], most_wide=150, most_high=min(110, room))
        top = rng.uniform(MARGIN, MARGIN + 0.6 * (room - high_height))
    widest = max(low_width, high_width)
    center = rng.uniform(MARGIN + widest / 2, IMAGE_SIZE - MARGIN - widest / 2)
    high = Placement(center - high_width / 2, top, high_width, high_height, rng.random() < 0.5)
    low = Placement(center - low_width / 2, bottom - low_height, low_width, low_height, rng.random() < 0.5)
    return high, low


def _in_the_middle(
    rng: random.Random, main: Appearance, other_appearance: Appearance, stance: str, horizon: float
) -> tuple[Placement, tuple[Placement, Placement]]:
    width, height = _extent(main.kind, 70, most_wide=74, most_high=130)
    other_width, other_height = _extent(other_appearance.kind, 78, most_wide=74, most_high=150)
    tallest = max(height, other_height)
    bottom = _level(rng, stance, tallest, horizon) + tallest
    middle = IMAGE_SIZE / 2 + rng.uniform(-4, 4)
    main_placement = Placement(middle - width / 2, bottom - height, width, height, rng.random() < 0.5)
    left = Placement(MARGIN + rng.uniform(0, 4), bottom - other_height, other_width, other_height)
    right = Placement(
        IMAGE_SIZE - MARGIN - rng.uniform(0, 4) - other_width, bottom - other_height, other_width, other_height, True
    )
    return main_placement, (left, right)


def _seated(rng: random.Random, kind: str, other: str) -> tuple[Placement, Placement]:
    seat = KINDS[other].seat
    assert seat is not None
    base_width, base_height = _extent(other, 118, most_wide=200, most_high=160)
    bottom = rng.uniform(FLOOR - 12, FLOOR)
    left = rng.uniform(MARGIN, IMAGE_SIZE - MARGIN - base_width)
    base = Placement(left, bottom - base_height, base_width, base_height, rng.random() < 0.5)
    across = 1 - seat[0] if base.flipped else seat[0]
    level = base.top + seat[1] * base_height
    width, height = _extent(kind, 62, most_wide=80, most_high=level - MARGIN)
    placement = Placement(
        base.left + across * base_width - width / 2, level - height, width, height, rng.random() < 0.5
    )
    return _inside(placement), base


def _sheltered(rng: random.Random, kind: str, other: str) -> tuple[Placement, Placement]:
    roof_width, roof_height = _extent(other, 170, most_wide=220, most_high=205)
    bottom = rng.uniform(FLOOR - 10, FLOOR - 2)
    left = rng.uniform(MARGIN, IMAGE_SIZE - MARGIN - roof_width)
    roof = Placement(left, bottom - roof_height, roof_width, roof_height, rng.random() < 0.5)
    free = KINDS[other].shelter * roof_height * 0.94
    width, height = _extent(kind, 90, most_wide=0.5 * roof_width, most_high=free)
    center = roof.center + rng.uniform(-0.18, 0.18) * roof_width
    return _inside(Placement(center - width / 2, bottom - height + 3, width, height, rng.random() < 0.5)), roof


def _in_front(rng: random.Random, kind: str, other: str) -> tuple[Placement, Placement]:
    back_width, back_height = _extent(other, 128, most_wide=190, most_high=180)
    bottom = rng.uniform(FLOOR - 34, FLOOR - 24)
    left = rng.uniform(MARGIN, IMAGE_SIZE - MARGIN - back_width)
    back = Placement(left, bottom - back_height, back_width, back_height, rng.random() < 0.5)
    width, height = _extent(kind, 62, most_wide=0.62 * back_width, most_high=0.55 * back_height)
    center = back.center + rng.uniform(-0.25, 0.25) * back_width
    return _inside(Placement(center - width / 2, bottom + 18 - height, width, height, rng.random() < 0.5)), back


def _inside(placement: Placement) -> Placement:
    """`placement`, moved so that it is entirely in the image."""
    left = min(max(placement.left, MARGIN), IMAGE_SIZE - MARGIN - placement.width)
    top = min(max(placement.top, MARGIN), IMAGE_SIZE - MARGIN - placement.height)
    return Placement(left, top, placement.width, placement.height, placement.flipped)
