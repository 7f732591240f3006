"""Whether a text has certain words, whatever units it was put together from."""

from __future__ import annotations

from captioner.text.scripts import is_unspaced


def has_words(text: str, words: str, *, ended: bool) -> bool:
    """Whether `words` occurs in `text`, and not as a part of a longer word: "car" does in "a car.", not in "a cart".

    ended: whether nothing follows the text; otherwise `words` at its end do not count, because they may grow. In a
    script without spaces each occurrence counts, for a reader finds the words in it.
    """
    start = text.find(words)
    while start >= 0:
        end = start + len(words)
        if _divides(text, start) and (_divides(text, end) if end < len(text) else ended):
            return True
        start = text.find(words, start + 1)
    return False


def _divides(text: str, position: int) -> bool:
    """Whether a word may begin or end before this character of the text."""
    if position == 0 or position == len(text):
        return True
    pair = text[position - 1 : position + 1]
    return not all(map(str.isalnum, pair)) or any(map(is_unspaced, pair))
