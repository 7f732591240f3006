"""Five sentences a scene, as five people would write them: short and long, with other words in another order.

Every person picks a pattern and looks at a different side of the scene: only the main object, its colour,
the number, the relation from one side or the other, the surroundings. Nothing false is ever said; much is
left out. Of combinations (see `compositions`), only the scene's own are ever expressed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from captioner.data.scenes.layout import Look, Scene
from captioner.data.scenes.words import (
    COLOUR_WORDS,
    INVERSE_PHRASES,
    NOUNS,
    NUMBERS,
    PLACE_PHRASES,
    RELATION_PHRASES,
    SCENERY,
    SIZE_WORDS,
    Choice,
)
from captioner.data.scenes.world import stance

SENTENCES_PER_SCENE = 5


def describe(scene: Scene, rng: random.Random) -> tuple[str, ...]:
    """Five different sentences about the scene."""
    patterns = _PAIR_PATTERNS if scene.other is not None else _PLAIN_PATTERNS
    weights = [weight for weight, _ in patterns]
    said: dict[str, str] = {}
    while len(said) < SENTENCES_PER_SCENE:
        ((_, pattern),) = rng.choices(patterns, weights)
        words = pattern(_Speaker(scene, rng))
        said.setdefault(words, words[0].upper() + words[1:] + "." if rng.random() < 0.5 else words)
    return tuple(said.values())


def _pick(rng: random.Random, choice: Choice) -> str:
    return rng.choices([text for _, text in choice], [weight for weight, _ in choice])[0]


def with_article(phrase: str) -> str:
    """ "a" or "an" before the phrase, by its first letter (no word of ours is an exception)."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


class _Speaker:
    """One person's words for the parts of one scene; every part is chosen anew each time it is asked for."""

    def __init__(self, scene: Scene, rng: random.Random) -> None:
        self._scene = scene
        self._rng = rng
        self.many = len(scene.main_spots) > 1
        on_something = scene.relation in ("on", "under")
        self._stance = "ground" if on_something else stance(scene.main.kind, scene.place)
        self._act = self._choose_act(scene.main.kind, self._stance)

    # ------------------------------------------------------------------------------------ the objects

    def main(self, definite: bool = False, colour: float = 0.86) -> str:
        """The main object or objects: "a red cat", "three red cats"; its colour with this probability."""
        return self._phrase(self._scene.main, len(self._scene.main_spots), definite, colour)

    def other(self, colour: float = 0.8) -> str:
        """The other object: "a green tree"; "two green trees" where the main one is between them."""
        assert self._scene.other is not None
        return self._phrase(self._scene.other, len(self._scene.other_spots), False, colour)

    def _phrase(self, look: Look, count: int, definite: bool, colour: float) -> str:
        names = NOUNS[look.kind].names
        _, single, plural = self._rng.choices(names, [weight for weight, _, _ in names])[0]
        words = [*self._adjectives(look, colour), single if count == 1 else plural]
        phrase = " ".join(words)
        if definite:
            return f"the {NUMBER_WORDS[count]} {phrase}" if count > 1 and self._rng.random() < 0.6 else f"the {phrase}"
        return with_article(phrase) if count == 1 else f"{_pick(self._rng, NUMBERS[count])} {phrase}"

    def _adjectives(self, look: Look, colour: float) -> list[str]:
        words = []
        if look.size in SIZE_WORDS and self._rng.random() < 0.45:
            words.append(_pick(self._rng, SIZE_WORDS[look.size]))
        if self._rng.random() < colour:
            words.append(self.colour(look))
        if look.texture != "plain" and self._rng.random() < 0.55:
            words.append(look.texture)
            if len(words) > 1 and self._rng.random() < 0.4:  # "a striped red cat" as well as "a red striped cat"
                words[-2:] = reversed(words[-2:])
        return words

    def colour(self, look: Look | None = None) -> str:
        """The colour's name."""
        colour = (look or self._scene.main).colour
        return _pick(self._rng, COLOUR_WORDS.get(colour, ((1, colour),)))

    # ------------------------------------------------------------------------- what it does, and where

    def _choose_act(self, kind: str, held: str) -> tuple[str, str, str]:
        acts = NOUNS[kind].acts[held]
        _, doing, does, do = self._rng.choices(acts, [act[0] for act in acts])[0]
        return doing, does, do

    @property
    def be(self) -> str:
        return "are" if self.many else "is"

    @property
    def doing(self) -> str:
        return self._act[0]

    @property
    def does(self) -> str:
        return self._act[2] if self.many else self._act[1]

    def place(self) -> str:
        """Where the main object is: "on the beach"."""
        phrases = PLACE_PHRASES[self._scene.place]
        return _pick(self._rng, phrases[self._stance if self._stance in phrases else "ground"])

    def scenery(self) -> str:
        """What is around: "under a blue sky"."""
        return _pick(self._rng, SCENERY[self._scene.place])

    def relation(self) -> str:
        assert self._scene.relation is not None
        return _pick(self._rng, RELATION_PHRASES[self._scene.relation])

    def inverse(self) -> str | None:
        """The relation seen from the other object; None where that cannot be said."""
        assert self._scene.relation is not None
        phrases = INVERSE_PHRASES.get(self._scene.relation)
        return None if phrases is None else _pick(self._rng, phrases)

    def one_of(self, *texts: str) -> str:
        return self._rng.choice(texts)


NUMBER_WORDS = {2: "two", 3: "three", 4: "four", 5: "five"}

Pattern = Callable[[_Speaker], str]


def _medium(speaker: _Speaker) -> str:
    return speaker.one_of("a picture of", "a picture of", "a drawing of", "an image of")


def _turned(speaker: _Speaker) -> str:
    inverse = speaker.inverse()
    if inverse is None:
        return f"{speaker.main()} with {speaker.other()} around it"
    return f"{speaker.other()} {inverse} {speaker.main()}"


_PLAIN_PATTERNS: Sequence[tuple[float, Pattern]] = (
    (6, lambda s: f"{s.main()} {s.place()}"),
    (5, lambda s: f"{s.main()} {s.doing} {s.place()}"),
    (5, lambda s: f"{s.main()} {s.be} {s.doing} {s.place()}"),
    (3, lambda s: f"there {s.be} {s.main()} {s.place()}"),
    (3, lambda s: f"{s.main()} {s.does} {s.place()}"),
    (1, lambda s: f"{_medium(s)} {s.main(colour=0.95)}"),
    (1, lambda s: f"{_medium(s)} {s.main()} {s.place()}"),
    (1, lambda s: f"{s.main(definite=True)} {s.does} {s.place()}"),
    (2, lambda s: f"{s.main()} can be seen {s.place()}"),
    (1, lambda s: f"{s.place()} there {s.be} {s.main()}"),
    (2, lambda s: f"{s.main()} {s.doing} {s.place()} {s.scenery()}"),
    (1, lambda s: f"{s.main()} {s.scenery()}"),
    (1, lambda s: f"{s.main(definite=True, colour=0)} {s.place()} {s.be} {s.colour()}"),
    (1, lambda s: s.main(colour=1.0)),
)

_PAIR_PATTERNS: Sequence[tuple[float, Pattern]] = (
    (6, lambda s: f"{s.main()} {s.relation()} {s.other()}"),
    (4, lambda s: f"{s.main()} {s.relation()} {s.other()} {s.place()}"),
    (4, lambda s: f"{s.main()} {s.doing} {s.relation()} {s.other()}"),
    (4, lambda s: f"{s.main()} is {s.doing} {s.relation()} {s.other()}"),
    (2, lambda s: f"{s.main()} is {s.relation()} {s.other()}"),
    (2, lambda s: f"there is {s.main()} {s.relation()} {s.other()}"),
    (2, _turned),
    (2, lambda s: f"{s.main()} and {s.other()} {s.place()}"),
    (1, lambda s: f"{s.main()} {s.does} {s.relation()} {s.other()}"),
    (1, lambda s: f"{s.main()} can be seen {s.relation()} {s.other()}"),
    (1, lambda s: f"{_medium(s)} {s.main()} {s.relation()} {s.other()}"),
    (1, lambda s: f"{s.main()} {s.doing} {s.place()}"),
    (1, lambda s: f"{s.main(definite=True)} is {s.relation()} {s.other()}"),
    (1, lambda s: f"{s.place()} {s.main()} is {s.relation()} {s.other()}"),
)
