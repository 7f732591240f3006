"""The COCO evaluation's tokenizer in pure Python: Penn Treebank tokens, in lower case, without punctuation.

The official caption scores are defined on what Stanford CoreNLP 3.4.1's PTBTokenizer makes of a caption,
so a score on any other tokens is another number. This does what that does, without Java, and faster.
`docs/tokenizer.md` says how far "the same" was tested and lists the differences that are left.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache, lru_cache

from captioner.text.ptb_characters import stand_ins
from captioner.text.ptb_rules import RULES, TWO_IN_ONE

PUNCTUATION = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])
"""What the COCO evaluation drops.

Its list also has `-LRB-` and the like, in capitals; tokens are in lower case, so brackets stay.
"""

# What ends a line for Java, and so, in the official tool, a caption in the midst of it.
LINE_BREAKS = re.compile("[\n\r\v\f\u2028\u2029]")

# What the official tokenizer sees behind a caption is the next one, and most begin so. It matters to a caption that
# ends in a letter and a full stop ("platform K.").
_NEXT_CAPTION = "\nA "

# Where a space does not part two tokens for certain: 1 1/2, (020) 7946, . . ., <a b>; I. Then, no. 5.
_SPACE_MATTERS = re.compile(r"<|[\d).]\s[\d.]|(?<![A-Za-z])[A-Za-z]\.\s")


_HIDE_TWO = frozenset(first + second for first, second in TWO_IN_ONE)


@cache
def _lexer() -> tuple[re.Pattern[str], list[re.Pattern[str]]]:
    """All rules at once, and each on its own.

    The first always matches and consumes nothing; its group i + 1 is what rule i wants to see, as far as it sees it.
    In the others group 1 is the token.
    """
    together = "".join(f"(?=({rule.token}{rule.before})|)" for rule in RULES)
    return re.compile(together, re.DOTALL), [re.compile(f"({rule.token}){rule.before}", re.DOTALL) for rule in RULES]


def _lex(text: str) -> Iterator[str]:
    """Every token of the text, punctuation included, in lower case."""
    text = LINE_BREAKS.sub(" ", text)
    kinds = stand_ins(text) + _NEXT_CAPTION
    together, alone = _lexer()
    place = 0
    while place < len(text):
        found = together.match(kinds, place)
        assert found is not None  # a pattern of optional parts
        ends = [end for _, end in found.regs[1:]]
        end = max(ends)
        winner = ends.index(end)  # the first of those that see the most
        if RULES[winner].before:
            seen = alone[winner].match(kinds, place)
            assert seen is not None  # since it was seen a moment ago
            end = seen.end(1)
        token = RULES[winner].to(text[place:end])
        if token:
            yield token.lower()
        place = end


@lru_cache(maxsize=2**16)
def _words(chunk: str) -> tuple[str, ...]:
    """The tokens of a piece of a caption that no space parts, nor could a space's other side change."""
    if chunk.isascii() and chunk.isalpha() and chunk.lower() not in _HIDE_TWO:
        return (chunk.lower(),)
    return tuple(token for token in _lex(chunk) if token not in PUNCTUATION)


def ptb_tokenize(caption: str) -> list[str]:
    """The tokens of one caption, in lower case, without COCO's punctuation. Works for any string.

    >>> ptb_tokenize("A dog isn't riding the black-and-white horse.")
    ['a', 'dog', 'is', "n't", 'riding', 'the', 'black-and-white', 'horse']
    """
    if _SPACE_MATTERS.search(caption):
        return [token for token in _lex(caption) if token not in PUNCTUATION]
    tokens: list[str] = []
    for chunk in caption.split(" "):
        tokens += _words(chunk)
    return tokens
