"""METEOR's own tokenization (`-norm`), which it applies to the tokens of the COCO evaluation's PTB tokenizer.

Moses-style: punctuation is separated, hyphens inside words become spaces, contractions are split before the
apostrophe, and a final period is kept only after an abbreviation or before a lower-case word. Patterns consume the
characters beside the one that they separate, as the jar's do: of "a,b,c" both commas are separated, but of "a-a-a"
only the first hyphen.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

# The characters that the jar takes for letters: Latin, Cyrillic and phonetic blocks. All others stand alone.
_LETTER = "A-Za-zÀ-ÖØ-öø-ž\u0400-\u0527\u1d00-\u1d7f\ua640-\ua66e\ua67e-\ua697"
_WORD = "0-9" + _LETTER
_CHARACTERS = str.maketrans(
    dict.fromkeys("\t\xa0\u202f\u205f\u3000" + "".join(map(chr, range(8192, 8203))), " ")
    | {"“": '"', "”": '"', "‘": "'", "’": "'", "`": "'", "–": " - "}
)
_SEPARATIONS = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        ("''", '"'),
        (rf"([^{_WORD} .',-])", r" \1 "),
        (r"(\.{2,})", r" \1 "),
        ("([^0-9]),([^0-9])", r"\1 , \2"),  # not inside a number
        ("([0-9]),([^0-9])", r"\1 , \2"),
        ("([^0-9]),([0-9])", r"\1 , \2"),
        ("--", "-"),
        (rf"([{_WORD}.])-([{_WORD}])", r"\1 \2"),
        (rf"([^{_LETTER}])'([^{_LETTER}])", r"\1 ' \2"),
        (rf"([^{_WORD}])'([{_LETTER}])", r"\1 ' \2"),
        (rf"([{_LETTER}])'([^{_LETTER}])", r"\1 ' \2"),
        (rf"([{_LETTER}])'([{_LETTER}])", r"\1 '\2"),
        ("([0-9])'s", r"\1 's"),
    )
]
_HAS_LETTER = re.compile(f"[{_LETTER}]")
_PLAIN = re.compile("[a-z0-9 ]*")
_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz")


def clean(caption: str) -> str:
    """The caption without METEOR's field separator, line breaks and double spaces, as in pycocoevalcap."""
    return caption.replace("|||", "").replace("  ", " ").replace("\r", " ").replace("\n", " ")


def normalize(caption: str, abbreviations: Mapping[str, bool]) -> list[str]:
    """The words of a caption as METEOR sees them.

    abbreviations: those that keep their period; the value is True for those that keep it before a number only.
    """
    if _PLAIN.fullmatch(caption):  # most captions, once PTB tokens are joined
        return caption.split()
    text = f" {caption.translate(_CHARACTERS)} "
    for pattern, replacement in _SEPARATIONS:
        text = pattern.sub(replacement, text)
    words = text.split()
    split = " ".join(
        _separate_period(word, following, abbreviations)
        for word, following in zip(words, [*words[1:], ""], strict=True)
    )
    return [_without_periods(word) for word in split.lower().split()]


def _separate_period(word: str, following: str, abbreviations: Mapping[str, bool]) -> str:
    """A word with its final period separated, unless it belongs to the word."""
    stem = word[:-1]
    if not word.endswith(".") or not stem or stem.endswith("."):
        return word
    numbers_only = abbreviations.get(stem)
    is_abbreviation = ("." in stem and bool(_HAS_LETTER.search(stem))) or numbers_only is False
    if is_abbreviation or following[:1] in _LOWER or (numbers_only and following[:1].isdigit()):
        return word
    return f"{stem} ."


def _without_periods(word: str) -> str:
    """ "u.s." as "us": an abbreviation with a final period and another one before it."""
    if word.endswith(".") and "." in word[:-1] and _HAS_LETTER.search(word):
        return word.replace(".", "")
    return word
