"""Five sentences a scene, as five people would write them: short and long, with other words in another order.

Every person picks a pattern and looks at another side of the scene: only the main object, its color, the
number, the relation from one side or from the other, the surroundings. Nothing false is said; much is left
out. Of combinations (see `compositions`), only the scene's own are ever expressed.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from captioner.data.synthetic.scenes.layout import Look, Scene
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

SENTENCES_PER_SCENE = 5

# Braces are parts that a speaker fills in: `_Speaker.parts` lists them.
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
    """Five different sentences about the scene, as raw text: some begin with a capital and end with a full stop."""
    patterns = _PLAIN_PATTERNS if scene.other is None else _PAIR_PATTERNS
    if scene.relation not in INVERSE_PHRASES:
        patterns = tuple(pattern for pattern in patterns if "{inverse}" not in pattern[1])
    said: dict[str, str] = {}
    while len(said) < SENTENCES_PER_SCENE:
        words = _Speaker(scene, rng).say(_pick(rng, patterns))
        said.setdefault(words, f"{words[0].upper()}{words[1:]}." if rng.random() < 0.5 else words)
    return tuple(said.values())


def with_article(phrase: str) -> str:
    """The phrase after "a" or "an", by its first letter: no word of ours is an exception."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


_Row = TypeVar("_Row", bound="tuple[Any, ...]")


def _pick_row(rng: random.Random, rows: Sequence[_Row]) -> _Row:
    """One of the rows, whose first entries are their weights."""
    return rng.choices(rows, [row[0] for row in rows])[0]


def _pick(rng: random.Random, choice: Choice) -> str:
    return _pick_row(rng, choice)[1]


class _Speaker:
    """One person's words for one scene: what each part of a pattern becomes."""

    def __init__(self, scene: Scene, rng: random.Random) -> None:
        self._scene = scene
        self._rng = rng
        self._many = len(scene.main_spots) > 1
        self._act = _pick_row(rng, NOUNS[scene.main.kind].acts[scene.stance_of(scene.main)])

    def say(self, pattern: str) -> str:
        """The pattern with its parts filled in, from left to right."""
        return re.sub(r"\{([\w ]+)\}", lambda part: _PARTS[part[1]](self), pattern)

    def main(self) -> str:
        return self._phrase(self._scene.main, len(self._scene.main_spots))

    def the_main(self) -> str:
        phrase = " ".join(self._words(self._scene.main, self._many))
        counted = self._many and self._rng.random() < 0.6
        return f"the {COUNT_WORDS[len(self._scene.main_spots)]} {phrase}" if counted else f"the {phrase}"

    def other(self) -> str:
        assert self._scene.other is not None
        return self._phrase(self._scene.other, len(self._scene.other_spots))

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
        return "them" if len(self._scene.other_spots) > 1 else "it"

    def relation(self) -> str:
        return _pick(self._rng, RELATION_PHRASES[str(self._scene.relation)])

    def inverse(self) -> str:
        """The relation as seen from the other object."""
        return _pick(self._rng, INVERSE_PHRASES[str(self._scene.relation)])

    def scenery(self) -> str:
        return _pick(self._rng, SCENERY_PHRASES[self._scene.place])

    def view(self) -> str:
        return _pick(self._rng, VIEW_PHRASES[self._scene.place])

    def medium(self) -> str:
        return _pick(self._rng, MEDIUM_PHRASES)

    def seen(self) -> str:
        return self.say(_pick(self._rng, SEEN_PHRASES))

    def place(self) -> str:
        """Where the main object is."""
        raised = self._scene.relation == "on"
        return self._place("raised" if raised else self._scene.stance_of(self._scene.main))

    def there(self) -> str:
        """Where both are: what flies leaves this to the other."""
        assert self._scene.other is not None
        flies = self._scene.stance_of(self._scene.main) == "air"
        return self._place(self._scene.stance_of(self._scene.other)) if flies else self.place()

    def _place(self, held: str) -> str:
        phrases = PLACE_PHRASES[self._scene.place]
        return _pick(self._rng, phrases.get(held) or phrases["ground"])

    def _phrase(self, look: Look, count: int) -> str:
        phrase = " ".join(self._words(look, count > 1))
        return with_article(phrase) if count == 1 else f"{_pick(self._rng, NUMBER_PHRASES[count])} {phrase}"

    def _words(self, look: Look, many: bool) -> list[str]:
        """What people say of a look: always the noun, mostly the color, sometimes size and texture."""
        before: list[str] = []
        after: list[str] = []
        if self._rng.random() < 0.82:
            before.append(self._color_word(look))
        if look.texture != "plain" and self._rng.random() < 0.6:
            word, with_noun = TEXTURE_WORDS[look.texture]
            if self._rng.random() < 0.25:
                after.append(f"with {with_noun}")
            else:  # "a striped red cat" as well as "a red striped cat"
                before.insert(self._rng.randint(0, len(before)), word)
        if look.size in SIZE_WORDS and self._rng.random() < 0.4:
            before.insert(0, _pick(self._rng, SIZE_WORDS[look.size]))
        return [*before, self._noun(look, many), *after]

    def _noun(self, look: Look, many: bool) -> str:
        name = _pick_row(self._rng, NOUNS[look.kind].names)
        return name.several if many else name.one

    def _color_word(self, look: Look) -> str:
        return _pick(self._rng, COLOR_WORDS.get(look.color, ((1, look.color),)))


_PARTS: dict[str, Callable[[_Speaker], str]] = {
    "main": _Speaker.main,
    "the main": _Speaker.the_main,
    "name": _Speaker.name,
    "color": _Speaker.color,
    "other": _Speaker.other,
    "it": _Speaker.it,
    "be": _Speaker.be,
    "doing": _Speaker.doing,
    "does": _Speaker.does,
    "seen": _Speaker.seen,
    "place": _Speaker.place,
    "there": _Speaker.there,
    "relation": _Speaker.relation,
    "inverse": _Speaker.inverse,
    "scenery": _Speaker.scenery,
    "view": _Speaker.view,
    "medium": _Speaker.medium,
}
"""What may stand between braces in a pattern."""
