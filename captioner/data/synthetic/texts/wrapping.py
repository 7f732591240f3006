"""Lines of a width: words are never cut, and every blank stays where it was or becomes a line's end."""

from __future__ import annotations


def wrap(text: str, width: int) -> list[str]:
    """`text` as lines of at most `width` characters, each as full as its words allow; a longer word gets its own."""
    lines: list[str] = []
    for word in text.split(" "):
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += " " + word
        else:
            lines.append(word)
    return lines
