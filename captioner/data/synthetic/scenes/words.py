"""The words for what is in a scene, with weights.

Tables only; `sentences` composes them. A choice is a tuple of (weight, text). The weights are set so that five captions
of a scene agree about as much as captions by five people.
"""

from __future__ import annotations

from typing import NamedTuple

Choice = tuple[tuple[float, str], ...]


class Name(NamedTuple):
    """A noun in the singular and the plural."""

    weight: float
    one: str
    several: str


class Act(NamedTuple):
    """What an object does: "(is) sitting" (doing), "(it) sits" (does), "(they) sit" (do)."""

    weight: float
    doing: str
    does: str
    do: str


class Noun(NamedTuple):
    """The names of a kind of object, and what it does in each of its possible stances."""

    names: tuple[Name, ...]
    acts: dict[str, tuple[Act, ...]]


_STAND = Act(3.0, "standing", "stands", "stand")
_SIT = Act(3.0, "sitting", "sits", "sit")
_FLY = Act(4.0, "flying", "flies", "fly")
_LIE = Act(3.0, "lying", "lies", "lie")
_FLOAT = Act(3.0, "floating", "floats", "float")
_REST_SITTING = Act(1.0, "resting", "sits", "sit")
_REST_LYING = Act(1.0, "resting", "lies", "lie")
_WAIT = Act(1.0, "waiting", "waits", "wait")
_PARKED = Act(4.0, "parked", "stands", "stand")
_GROW = Act(3.0, "growing", "grows", "grow")

NOUNS: dict[str, Noun] = {
    "cat": Noun((Name(5, "cat", "cats"), Name(1, "kitten", "kittens")), {"ground": (_SIT, _WAIT)}),
    "dog": Noun((Name(5, "dog", "dogs"), Name(1, "puppy", "puppies")), {"ground": (_STAND, _WAIT)}),
    "bird": Noun((Name(1, "bird", "birds"),), {"air": (_FLY,), "ground": (_SIT, _REST_SITTING)}),
    "fish": Noun((Name(1, "fish", "fish"),), {"swim": (Act(4, "swimming", "swims", "swim"),)}),
    "horse": Noun((Name(5, "horse", "horses"), Name(1, "pony", "ponies")), {"ground": (_STAND, _WAIT)}),
    "elephant": Noun((Name(1, "elephant", "elephants"),), {"ground": (_STAND, Act(2, "walking", "walks", "walk"))}),
    "butterfly": Noun(
        (Name(1, "butterfly", "butterflies"),),
        {"air": (_FLY, Act(1, "fluttering", "flies", "fly")), "ground": (_SIT, _REST_SITTING)},
    ),
    "rabbit": Noun((Name(5, "rabbit", "rabbits"), Name(1, "bunny", "bunnies")), {"ground": (_SIT, _WAIT)}),
    "turtle": Noun(
        (Name(4, "turtle", "turtles"), Name(1, "tortoise", "tortoises")),
        {"ground": (Act(3, "walking", "walks", "walk"), Act(2, "crawling", "walks", "walk"))},
    ),
    "duck": Noun(
        (Name(1, "duck", "ducks"),),
        {"ground": (_SIT, _REST_SITTING), "float": (Act(4, "swimming", "swims", "swim"), _FLOAT)},
    ),
    "car": Noun((Name(1, "car", "cars"),), {"ground": (_PARKED, _WAIT)}),
    "bus": Noun((Name(1, "bus", "buses"),), {"ground": (_PARKED, _WAIT)}),
    "train": Noun(
        (Name(4, "train", "trains"), Name(1, "locomotive", "locomotives")),
        {"ground": (_STAND, Act(2, "waiting", "waits", "wait"))},
    ),
    "boat": Noun(
        (Name(4, "boat", "boats"), Name(1, "sailboat", "sailboats")),
        {"float": (_FLOAT, Act(2, "sailing", "floats", "float"))},
    ),
    "bicycle": Noun((Name(3, "bicycle", "bicycles"), Name(2, "bike", "bikes")), {"ground": (_PARKED, _STAND)}),
    "plane": Noun((Name(4, "plane", "planes"), Name(2, "airplane", "airplanes")), {"air": (_FLY,)}),
    "ball": Noun((Name(1, "ball", "balls"),), {"ground": (_LIE, _REST_LYING), "float": (_FLOAT,)}),
    "tree": Noun((Name(1, "tree", "trees"),), {"ground": (_GROW, _STAND)}),
    "house": Noun((Name(5, "house", "houses"), Name(1, "cottage", "cottages")), {"ground": (_STAND,)}),
    "umbrella": Noun((Name(4, "umbrella", "umbrellas"), Name(1, "parasol", "parasols")), {"ground": (_STAND,)}),
    "balloon": Noun((Name(1, "balloon", "balloons"),), {"air": (_FLOAT, Act(1, "rising", "floats", "float"))}),
    "cup": Noun((Name(3, "cup", "cups"), Name(2, "mug", "mugs")), {"ground": (_STAND, _SIT)}),
    "flower": Noun((Name(1, "flower", "flowers"),), {"ground": (_GROW, Act(1, "blooming", "grows", "grow"))}),
    "chair": Noun((Name(1, "chair", "chairs"),), {"ground": (_STAND,)}),
    "apple": Noun((Name(1, "apple", "apples"),), {"ground": (_LIE, _REST_LYING)}),
    "mushroom": Noun((Name(1, "mushroom", "mushrooms"),), {"ground": (_GROW, _STAND)}),
    "table": Noun((Name(1, "table", "tables"),), {"ground": (_STAND,)}),
    "kite": Noun((Name(1, "kite", "kites"),), {"air": (_FLY,)}),
}

COLOR_WORDS: dict[str, Choice] = {
    "purple": ((5, "purple"), (1, "violet")),
}
"""Colors with more than one name."""

TEXTURE_WORDS = {"striped": ("striped", "stripes"), "spotted": ("spotted", "spots")}
"""Texture → (adjective, noun after "with")."""

SIZE_WORDS: dict[str, Choice] = {
    "small": ((3, "small"), (2, "little"), (1, "tiny")),
    "large": ((3, "large"), (3, "big"), (1, "huge")),
}

# Place → stance → phrases; "raised" is on another object. "ground" is used for stances that are not listed.
PLACE_PHRASES: dict[str, dict[str, Choice]] = {
    "beach": {
        "ground": (
            (4, "on the beach"),
            (2, "on the sand"),
            (1, "at the beach"),
            (1, "by the sea"),
            (1, "near the ocean"),
        ),
        "raised": ((3, "at the beach"), (1, "by the sea"), (1, "near the ocean")),
        "air": ((4, "over the beach"), (2, "above the sand"), (1, "by the sea"), (1, "at the beach")),
    },
    "field": {
        "ground": ((4, "in a field"), (3, "on the grass"), (1, "in a meadow"), (1, "in a green field")),
        "raised": ((3, "in a field"), (1, "in a meadow"), (1, "in the countryside")),
        "air": ((4, "over a field"), (3, "above the grass"), (1, "over a meadow"), (1, "in the countryside")),
    },
    "street": {
        "ground": ((4, "on the street"), (2, "on the road"), (1, "in the city"), (1, "in a town")),
        "raised": ((3, "on the street"), (1, "in the city"), (1, "in a town")),
        "air": ((4, "over the street"), (2, "above the road"), (1, "in the city"), (1, "over a town")),
    },
    "snow": {
        "ground": ((4, "in the snow"), (1, "on a snowy day"), (1, "on a winter day"), (1, "in a snowy field")),
        "air": ((4, "over the snow"), (1, "on a snowy day"), (1, "on a winter day"), (1, "above a snowy field")),
    },
    "water": {
        "float": ((4, "on the water"), (2, "on the lake"), (1, "on the sea")),
        "swim": ((4, "in the water"), (2, "in the lake"), (1, "in the sea")),
        "air": ((4, "over the water"), (2, "above the lake"), (1, "over the sea")),
    },
    "night": {
        "ground": ((4, "at night"), (2, "in the dark"), (1, "in the moonlight"), (1, "under the stars")),
        "air": ((3, "at night"), (3, "in the night sky"), (1, "under the stars"), (1, "in the moonlight")),
    },
    "room": {
        "ground": ((3, "in a room"), (2, "on the floor"), (1, "in the living room"), (1, "indoors")),
        "raised": ((3, "in a room"), (1, "in the living room"), (1, "indoors")),
        "air": ((3, "in a room"), (1, "in the living room"), (1, "indoors")),
    },
}

# Place → phrases about the background.
SCENERY_PHRASES: dict[str, Choice] = {
    "beach": ((2, "with the sea behind"), (1, "with waves in the background")),
    "field": ((2, "under a blue sky"), (1, "with green grass all around")),
    "street": ((2, "with buildings in the background"), (1, "with tall buildings behind")),
    "snow": ((2, "with white snow all around"), (1, "under a cloudy sky")),
    "water": ((2, "under a clear sky"), (1, "with small waves all around")),
    "night": ((2, "under a dark sky"), (1, "with the moon in the sky")),
    "room": ((2, "with a window behind"), (1, "near a window")),
}

VIEW_PHRASES: dict[str, Choice] = {
    "beach": ((2, "a beach"), (1, "a sandy beach")),
    "field": ((2, "a green field"), (1, "a meadow")),
    "street": ((2, "a street"), (1, "a city street")),
    "snow": ((2, "a snowy field"), (1, "a winter day")),
    "water": ((2, "a lake"), (1, "the sea")),
    "night": ((2, "a dark night"), (1, "a night sky")),
    "room": ((2, "a room"), (1, "a living room")),
}
"""Place → the place as the subject of the sentence."""

MEDIUM_PHRASES: Choice = ((3, "a picture of"), (1, "a photo of"), (1, "a drawing of"), (1, "an image of"))

SEEN_PHRASES: Choice = ((2, "can be seen"), (1, "{be} shown"), (1, "{be} pictured"))
"""Passive; "{be}" is "is" or "are"."""

RELATION_PHRASES: dict[str, Choice] = {
    "left of": ((2, "next to"), (3, "to the left of"), (1, "beside"), (1, "left of"), (1, "near")),
    "right of": ((2, "next to"), (3, "to the right of"), (1, "beside"), (1, "right of"), (1, "near")),
    "above": ((5, "above"), (3, "over"), (1, "high above")),
    "below": ((5, "below"), (2, "under"), (1, "beneath")),
    "on": ((5, "on"), (3, "on top of")),
    "under": ((5, "under"), (2, "beneath"), (1, "underneath")),
    "in front of": ((1, "in front of"),),
    "between": ((1, "between"),),
}

# Relation → the inverse relation, with the other object as the subject.
INVERSE_PHRASES: dict[str, Choice] = {
    "left of": ((3, "next to"), (3, "to the right of"), (1, "beside"), (1, "near")),
    "right of": ((3, "next to"), (3, "to the left of"), (1, "beside"), (1, "near")),
    "above": ((5, "below"), (2, "under")),
    "below": ((5, "above"), (3, "over")),
    "on": ((1, "under"),),
    "under": ((4, "above"), (3, "over")),
    "in front of": ((1, "behind"),),
}

NUMBER_PHRASES: dict[int, Choice] = {
    2: ((5, "two"), (1, "a pair of")),
    3: ((5, "three"), (1, "a group of three"), (1, "some")),
    4: ((5, "four"), (1, "a group of four"), (1, "several")),
    5: ((5, "five"), (1, "a group of five"), (1, "several")),
}

COUNT_WORDS = {2: "two", 3: "three", 4: "four", 5: "five"}
