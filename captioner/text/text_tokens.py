"""A running text as tokens, for the language model: its characters, or its words."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from captioner.errors import choose

_WORD = re.compile(r"\n|\w+|[^\w\s]")

_SPLITTERS: dict[str, Callable[[str], list[str]]] = {"characters": list, "words": _WORD.findall}


def split_text(text: str, level: str) -> list[str]:
    """The tokens of `text`.

    characters: every character, so that the text can be put together again exactly.
    words: runs of letters and digits, every other mark by itself, and every line break; blanks are left out.
    """
    return _SPLITTERS[choose("data.level", level, _SPLITTERS)](text)


def join_tokens(tokens: Sequence[str], level: str) -> str:
    """Tokens as text: exact for characters, with single blanks between words."""
    if level == "characters":
        return "".join(tokens)
    return re.sub(r" ?\n ?", "\n", " ".join(tokens))
