"""The indefinite article of a generated caption: "a" or "an", as the word after it needs.

A decoder chooses the article before the word that decides its form. The form that is rare is hardly ever chosen after
self-critical training, and a word that classes add (`captioner.text.class_preferences`) has never been read after any:
"a orange kite", "a elephant". So where a caption becomes text, the article takes the form of the word that follows;
the search, its log-probabilities and its other words stay as they are.

The training captions decide which form that is: the one that stands before the word more often, if the two do at least
five times; for other words, their first letters. They also decide whether "a" and "an" are these articles: both must
occur, and nine in ten of the words after each must begin as English has it. French and German captions have both words,
with other meanings, and are left alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from captioner.text.phrases import PhraseStatistics

FEWEST = 5  # occurrences of a word after "a" and "an" that decide its form
FEWEST_ARTICLES, SHARE = 25, 0.9  # occurrences of each article, and how many of them English explains
_VOWEL = re.compile(r"[aeiou]|hour|honou?r|honest|heir|8|1[18](?!\d)")
_YET_CONSONANT = re.compile(
    r"e[uw]|on(?:e|es|ce)(?![a-z])|u(?:ni(?![dmn])|s[aeiu]|r[aeio]|t[eio]|k|fo)"  # European, one, unicycle, used, ufo
)


def begins_with_vowel(word: str) -> bool:
    """Whether a word begins with the sound of a vowel, by its letters: "hour" does, "unicycle" does not."""
    return _VOWEL.match(word) is not None and _YET_CONSONANT.match(word) is None


@dataclass(frozen=True)
class Articles:
    """The tokens of "a" and "an", those of the words that need "an", and those that say nothing about it."""

    a: int
    an: int
    after_an: frozenset[int]
    after_either: frozenset[int]

    @classmethod
    def learn(cls, tokens: Sequence[str], phrases: PhraseStatistics | None) -> Articles | None:
        """From the tokens of a vocabulary and the statistics of its training captions.

        None where these are not known, or do not use "a" and "an" as English does.
        """
        if phrases is None or not {"a", "an"} <= set(tokens):
            return None
        a, an = tokens.index("a"), tokens.index("an")
        words = [token for token, text in enumerate(tokens) if text[:1].isalnum() and token not in (a, an)]
        before = {token: tuple(phrases.counts.get((article, token), 0) for article in (a, an)) for token in words}
        by_letters = {token for token in words if begins_with_vowel(tokens[token])}
        explained = (
            sum(counts[0] for token, counts in before.items() if token not in by_letters),
            sum(before[token][1] for token in by_letters),
        )
        occurrences = [sum(counts[form] for counts in before.values()) for form in (0, 1)]
        if min(occurrences) < FEWEST_ARTICLES or any(
            of_form < SHARE * total for of_form, total in zip(explained, occurrences, strict=True)
        ):
            return None
        after_an = {
            token
            for token, counts in before.items()
            if (counts[1] > counts[0] if sum(counts) >= FEWEST and counts[0] != counts[1] else token in by_letters)
        }
        return cls(a, an, frozenset(after_an), frozenset(range(len(tokens))) - frozenset(words))

    def agree(self, token_ids: Sequence[int]) -> list[int]:
        """The token ids of a caption, each article in the form that the next word needs."""
        found = list(token_ids)
        for place, following in enumerate(found[1:]):
            if found[place] in (self.a, self.an) and following not in self.after_either:
                found[place] = self.an if following in self.after_an else self.a
        return found

    def to_plain(self) -> dict[str, Any]:
        """All of it as JSON values, for the page without a server."""
        return {
            "a": self.a,
            "an": self.an,
            "after_an": sorted(self.after_an),
            "after_either": sorted(self.after_either),
        }
