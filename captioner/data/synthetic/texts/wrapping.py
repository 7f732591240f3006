"""Breaks text into lines of a maximum width, at spaces."""

from __future__ import annotations


def wrap(text: str, width: int) -> list[str]:
    """`text` as lines of at most `width` characters, filled greedily. A longer word gets a line of its own."""
    lines: list[str] = []
    for word in text.split(" "):
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += " " + word
        else:
            lines.append(word)
    return lines
