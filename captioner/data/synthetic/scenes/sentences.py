"""The five captions of a scene: short and long ones, with different words in different order.

Each caption fills a random pattern and describes another aspect of the scene: only the main object, its color, the
number, the relation from either side, or the surroundings. Captions are incomplete but never false, and express only
the scene's own combinations (see `compositions`).
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from captioner.data.synthetic.scenes.layout import Appearance, Scene
from captioner.data.synthetic.scenes.words import (
    COLOR_WORDS,
    COUNT_WORDS,
    INVERSE_PHRASES,
    MEDIUM_PHRASES,
    NOUNS,
    NUMBER_PHRASES,
    PLACE_PHRASES,
    RELATION_PHRASES,
    SCENERY_PHRASES,
    SEEN_PHRASES,
    SIZE_WORDS,
    TEXTURE_WORDS,
    VIEW_PHRASES,
    Choice,
)

CAPTIONS_PER_SCENE = 5

# Parts in braces are filled in by `_CaptionWriter`; `_PARTS` lists them.
_PLAIN_PATTERNS: Choice = (
    (5, "{main} {place}"),
    (4, "{main} {doing} {place}"),
    (4, "{main} {be} {doing} {place}"),
    (2, "{main} {does} {place}"),
    (2, "there {be} {main} {place}"),
    (2, "{the main} {does} {place}"),
    (2, "{main} {doing} {place} {scenery}"),
    (1, "{the main} {be} {doing} {scenery}"),
    (1, "{main} {scenery}"),
    (1, "{main} {seen} {place}"),
    (1, "{place} there {be} {main}"),
    (1, "{place}, {main} {be} {doing}"),
    (1, "the {name} {place} {be} {color}"),
    (1, "{medium} {main}"),
    (1, "{medium} {main} {place}"),
    (1, "{view} with {main}"),
    (1, "here {be} {main} {doing} {place}"),
    (1, "we can see {main} {place}"),
    (1, "somebody took a photo of {main}"),
)

_PAIR_PATTERNS: Choice = (
    (5, "{main} {relation} {other}"),
    (4, "{main} {relation} {other} {there}"),
    (3, "{main} {doing} {relation} {other}"),
    (3, "{main} is {doing} {relation} {other}"),
    (2, "{main} {does} {relation} {other}"),
    (2, "{main} is {relation} {other}"),
    (1, "there is {main} {relation} {other}"),
    (1, "{the main} {does} {relation} {other}"),
    (3, "{other} {inverse} {main}"),
    (1, "{other} {inverse} {main} {there}"),
    (2, "{other} with {main} {relation} {it}"),
    (2, "{main} and {other} {there}"),
    (1, "{other} and {main} {scenery}"),
    (1, "{main} {seen} {relation} {other}"),
    (1, "{medium} {main} {relation} {other}"),
    (1, "{main} {doing} {place}"),
    (1, "{place}, {main} is {relation} {other}"),
    (1, "{view} with {main} and {other}"),
    (1, "we can see {main} and {other}"),
    (1, "{main} {relation} {other} {scenery}"),
)


def describe(scene: Scene, rng: random.Random) -> tuple[str, ...]:
    """Five different captions of the scene, as raw text. Half of them begin with a capital and end with a period."""
    patterns = _PLAIN_PATTERNS if scene.other is None else _PAIR_PATTERNS
    if scene.relation not in INVERSE_PHRASES:
        patterns = tuple(pattern for pattern in patterns if "{inverse}" not in pattern[1])
    captions: dict[str, str] = {}
    while len(captions) < CAPTIONS_PER_SCENE:
        words = _CaptionWriter(scene, rng).fill(_pick(rng, patterns))
        captions.setdefault(words, f"{words[0].upper()}{words[1:]}." if rng.random() < 0.5 else words)
    return tuple(captions.values())


def with_article(phrase: str) -> str:
    """The phrase with "a" or "an", by its first letter, which is right for all words of `words`."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


_Row = TypeVar("_Row", bound="tuple[Any, ...]")


def _pick_row(rng: random.Random, rows: Sequence[_Row]) -> _Row:
    """A random row. The first entry of each row is its weight."""
    return rng.choices(rows, [row[0] for row in rows])[0]


def _pick(rng: random.Random, choice: Choice) -> str:
    return _pick_row(rng, choice)[1]


class _CaptionWriter:
    """Fills in the parts of a pattern for one caption of a scene."""

    def __init__(self, scene: Scene, rng: random.Random) -> None:
        self._scene = scene
        self._rng = rng
        self._many = len(scene.main_placements) > 1
        self._act = _pick_row(rng, NOUNS[scene.main.kind].acts[scene.stance_of(scene.main)])

    def fill(self, pattern: str) -> str:
        """The pattern with its parts filled in, from left to right."""
        return re.sub(r"\{([\w ]+)\}", lambda part: _PARTS[part[1]](self), pattern)

    def main(self) -> str:
        return self._phrase(self._scene.main, len(self._scene.main_placements))

    def the_main(self) -> str:
        phrase = " ".join(self._words(self._scene.main, self._many))
        counted = self._many and self._rng.random() < 0.6
        return f"the {COUNT_WORDS[len(self._scene.main_placements)]} {phrase}" if counted else f"the {phrase}"

    def other(self) -> str:
        assert self._scene.other is not None
        return self._phrase(self._scene.other, len(self._scene.other_placements))

    def name(self) -> str:
        return self._noun(self._scene.main, self._many)

    def color(self) -> str:
        return self._color_word(self._scene.main)

    def be(self) -> str:
        return "are" if self._many else "is"

    def doing(self) -> str:
        return self._act.doing

    def does(self) -> str:
        return self._act.do if self._many else self._act.does

    def it(self) -> str:
        return "them" if len(self._scene.other_placements) > 1 else "it"

    def relation(self) -> str:
        return _pick(self._rng, RELATION_PHRASES[str(self._scene.relation)])

    def inverse(self) -> str:
        """The relation with the other object as the subject."""
        return _pick(self._rng, INVERSE_PHRASES[str(self._scene.relation)])

    def scenery(self) -> str:
        return _pick(self._rng, SCENERY_PHRASES[self._scene.place])

    def view(self) -> str:
        return _pick(self._rng, VIEW_PHRASES[self._scene.place])

    def medium(self) -> str:
        return _pick(self._rng, MEDIUM_PHRASES)

    def seen(self) -> str:
        return self.fill(_pick(self._rng, SEEN_PHRASES))

    def place(self) -> str:
        """The location of the main object."""
        raised = self._scene.relation == "on"
        return self._place("raised" if raised else self._scene.stance_of(self._scene.main))

    def there(self) -> str:
        """The location of both objects: that of the other one if the main object flies."""
        assert self._scene.other is not None
        flies = self._scene.stance_of(self._scene.main) == "air"
        return self._place(self._scene.stance_of(self._scene.other)) if flies else self.place()

    def _place(self, stance: str) -> str:
        phrases = PLACE_PHRASES[self._scene.place]
        return _pick(self._rng, phrases.get(stance) or phrases["ground"])

    def _phrase(self, appearance: Appearance, count: int) -> str:
        phrase = " ".join(self._words(appearance, count > 1))
        return with_article(phrase) if count == 1 else f"{_pick(self._rng, NUMBER_PHRASES[count])} {phrase}"

    def _words(self, appearance: Appearance, many: bool) -> list[str]:
        """The words for an object: always the noun, usually the color, sometimes size and texture."""
        before: list[str] = []
        after: list[str] = []
        if self._rng.random() < 0.82:
            before.append(self._color_word(appearance))
        if appearance.texture != "plain" and self._rng.random() < 0.6:
            word, with_noun = TEXTURE_WORDS[appearance.texture]
            if self._rng.random() < 0.25:
                after.append(f"with {with_noun}")
            else:  # both "a striped red cat" and "a red striped cat" occur
                before.insert(self._rng.randint(0, len(before)), word)
        if appearance.size in SIZE_WORDS and self._rng.random() < 0.4:
            before.insert(0, _pick(self._rng, SIZE_WORDS[appearance.size]))
        return [*before, self._noun(appearance, many), *after]

    def _noun(self, appearance: Appearance, many: bool) -> str:
        name = _pick_row(self._rng, NOUNS[appearance.kind].names)
        return name.several if many else name.one

    def _color_word(self, appearance: Appearance) -> str:
        return _pick(self._rng, COLOR_WORDS.get(appearance.color, ((1, appearance.color),)))


_PARTS: dict[str, Callable[[_CaptionWriter], str]] = {
    "main": _CaptionWriter.main,
    "the main": _CaptionWriter.the_main,
    "name": _CaptionWriter.name,
    "color": _CaptionWriter.color,
    "other": _CaptionWriter.other,
    "it": _CaptionWriter.it,
    "be": _CaptionWriter.be,
    "doing": _CaptionWriter.doing,
    "does": _CaptionWriter.does,
    "seen": _CaptionWriter.seen,
    "place": _CaptionWriter.place,
    "there": _CaptionWriter.there,
    "relation": _CaptionWriter.relation,
    "inverse": _CaptionWriter.inverse,
    "scenery": _CaptionWriter.scenery,
    "view": _CaptionWriter.view,
    "medium": _CaptionWriter.medium,
}
"""Part of a pattern → the method that fills it in."""
