"""Recognizes captions that no reader can use: empty ones, and those that repeat a phrase again and again."""

from __future__ import annotations

from collections.abc import Sequence

LONGEST_PHRASE = 4  # tokens
REPETITIONS = 3  # of one phrase in a row; twice occurs in references ("a man and a man", "very very")


def why_unusable(tokens: Sequence[str]) -> str | None:
    """Why a generated caption is no caption, as the end of "This caption …"; None for one that may be shown.

    tokens: the T generated tokens, without <START> and <END>.
    """
    if not tokens:
        return "is empty"
    phrase = repeated_phrase(tokens)
    return f"repeats {' '.join(phrase)!r}" if phrase else None


def repeated_phrase(tokens: Sequence[str]) -> tuple[str, ...]:
    """The first of the shortest phrases of up to 4 tokens that occur three times in a row; () where there is none."""
    for length in range(1, LONGEST_PHRASE + 1):
        for start in range(len(tokens) - REPETITIONS * length + 1):
            phrase = tuple(tokens[start : start + length])
            if tuple(tokens[start : start + REPETITIONS * length]) == phrase * REPETITIONS:
                return phrase
    return ()
