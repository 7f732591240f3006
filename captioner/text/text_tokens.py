"""Running text as tokens for the language model: characters or words."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from captioner.errors import choose

_WORD = re.compile(r"\n|\w+|[^\w\s]")

_SPLITTERS: dict[str, Callable[[str], list[str]]] = {"characters": list, "words": _WORD.findall}


def split_text(text: str, level: str) -> list[str]:
    """The tokens of `text`. `level`: "characters" or "words"; ConfigError for another one.

    characters: every character, so that joining them gives exactly the text.
    words: runs of letters and digits, every other mark by itself, and every line break; blanks are removed.
    """
    return _SPLITTERS[choose("data.level", level, _SPLITTERS)](text)


def join_tokens(tokens: Sequence[str], level: str) -> str:
    """Tokens as text: exact for characters; words are separated by single blanks."""
    if level == "characters":
        return "".join(tokens)
    return re.sub(r" ?\n ?", "\n", " ".join(tokens))
