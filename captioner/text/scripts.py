"""Scripts that are written without spaces between words, for which other tokenizers are needed."""

from __future__ import annotations

from collections.abc import Iterable

UNSPACED_SCRIPTS: dict[str, tuple[tuple[int, int], ...]] = {
    "Chinese": ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x323AF)),
    "Japanese": ((0x3041, 0x30FF), (0x31F0, 0x31FF), (0xFF66, 0xFF9D)),
    "Thai": ((0x0E01, 0x0E5B),),
    "Lao": ((0x0E81, 0x0EDF),),
    "Tibetan": ((0x0F00, 0x0FFF),),
    "Burmese": ((0x1000, 0x109F),),
    "Khmer": ((0x1780, 0x17FF),),
}
"""Language → the ranges of code points of its script. Japanese: of its syllables; it has Chinese characters, too."""


def is_unspaced(character: str) -> bool:
    """Whether the character belongs to a script without spaces."""
    code = ord(character)
    return any(low <= code <= high for ranges in UNSPACED_SCRIPTS.values() for low, high in ranges)


def mostly_unspaced(texts: Iterable[str]) -> bool:
    """Whether most letters of the texts belong to scripts without spaces."""
    letters = unspaced = 0
    for text in texts:
        if text.isascii():
            letters += len(text)
            continue
        for character in text:
            found = is_unspaced(character)
            unspaced += found
            letters += found or character.isalpha()
    return unspaced > letters / 2
