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
from captioner.text.ptb_rules import RULES, TWO_IN_ONE, Rule

PUNCTUATION = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])
"""What the COCO evaluation drops.

Its list also has `-LRB-` and the like, in capitals; tokens are in lower case, so brackets stay.
"""

LINE_BREAKS = re.compile("[\n\r\v\f\u2028\u2029]")
"""What ends a line for Java and so would end a caption in its midst. Space, for us."""

# What stands behind a piece of text as its rules see it. Behind a caption the official tokenizer sees the next one, and
# most begin like this; it matters to a caption that ends in a letter and a full stop ("platform K.").
_NEXT_CAPTION = "\nA "
_NEXT_WORD = " a"

# Where a space does more than part two words: 1 1/2, (020) 7946, . . ., <a b>; I. Then, no. 5; more space.
_SPACE_MATTERS = re.compile(r"<|[\d).]\s[\d.]|[A-Za-z]\.\s+(?:[A-Z]|$)| [^\S ]")

_TWO_IN_ONE = frozenset(first + second for first, second in TWO_IN_ONE)


@cache
def _lexer() -> tuple[re.Pattern[str], tuple[re.Pattern[str], ...]]:
    """All rules at once, and each on its own.

    The first always matches and consumes nothing; its group i + 1 is what rule i matches, if anything.
    In the others group 1 is the token.
    """
    together = "".join(f"(?=({rule.token}{rule.before})|)" for rule in RULES)
    alone = (re.compile(f"({rule.token}){rule.before}", re.DOTALL) for rule in RULES)
    return re.compile(together, re.DOTALL), tuple(alone)


def _next_token(kinds: str, place: int) -> tuple[Rule, int]:
    """The rule that matches the most from `place` on, of equals the first, and where its token ends."""
    together, alone = _lexer()
    found = together.match(kinds, place)
    assert found is not None  # every rule may fail
    ends = [end for _, end in found.regs[1:]]
    end = max(ends)
    winner = ends.index(end)
    if RULES[winner].before:
        token = alone[winner].match(kinds, place)
        assert token is not None  # it has just matched
        end = token.end(1)
    return RULES[winner], end


def _all_tokens(text: str, behind: str) -> Iterator[str]:
    """Every token of the text, punctuation included, in lower case. The text holds no line break."""
    kinds = stand_ins(text) + behind
    place = 0
    while place < len(text):
        rule, end = _next_token(kinds, place)
        token = rule.to(text[place:end])
        if token:
            yield token.lower()
        place = end


def _tokens(text: str, behind: str) -> tuple[str, ...]:
    """The tokens of the text but for punctuation."""
    if text.isascii() and text.isalpha() and text.lower() not in _TWO_IN_ONE:
        return (text.lower(),)
    return tuple(token for token in _all_tokens(text, behind) if token not in PUNCTUATION)


_remembered_tokens = lru_cache(maxsize=2**16)(_tokens)  # most pieces of captions come again and again


def ptb_tokenize(caption: str) -> list[str]:
    """The tokens of one caption, in lower case, without COCO's punctuation. Takes any string.

    A token holds no space, but for the no-break space in a mixed fraction, a telephone number or a tag.

    >>> ptb_tokenize("A dog isn't riding the black-and-white horse.")
    ['a', 'dog', 'is', "n't", 'riding', 'the', 'black-and-white', 'horse']
    """
    caption = LINE_BREAKS.sub(" ", caption).rstrip(" ")
    if _SPACE_MATTERS.search(caption):
        return list(_tokens(caption, _NEXT_CAPTION))
    *chunks, last = caption.split(" ")
    tokens: list[str] = []
    for chunk in chunks:
        tokens += _remembered_tokens(chunk, _NEXT_WORD)
    tokens += _remembered_tokens(last, _NEXT_CAPTION)
    return tokens
