"""The COCO evaluation's tokenizer in pure Python: Penn Treebank tokens, in lower case, without punctuation.

The official caption metrics are defined on the tokens of Stanford CoreNLP 3.4.1's PTBTokenizer; other tokens give other
scores. This module gives the same tokens without Java, and faster. `docs/tokenizer.md` describes how that was tested
and lists the remaining differences.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache, lru_cache

from captioner.text.ptb_characters import character_kinds
from captioner.text.ptb_rules import RULES, SPLIT_WORDS, Rule

PUNCTUATION = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])
"""The tokens that the COCO evaluation removes.

Its list also has `-LRB-` and similar names, in capitals; tokens are in lower case, so brackets are kept.
"""

LINE_BREAKS = re.compile("[\n\r\v\f\u2028\u2029]")
"""What Java reads as the end of a line, and so of a caption. Here it is a space."""

# The text after a piece, for the rules' lookahead. After a caption the official tokenizer reads the next caption, and
# most begin like this. It matters for a caption that ends in a letter and a full stop ("platform K.").
_NEXT_CAPTION = "\nA "
_NEXT_WORD = " a"

# Where a space is more than a separator of words: 1 1/2, (020) 7946, . . ., <a b>; I. Then, no. 5; other white space.
_SPACE_MATTERS = re.compile(r"<|[\d).]\s[\d.]|[A-Za-z]\.\s+(?:[A-Z]|$)| [^\S ]")

_SPLIT_WORDS = frozenset(first + second for first, second in SPLIT_WORDS)


@cache
def _lexer() -> tuple[re.Pattern[str], tuple[re.Pattern[str], ...]]:
    """One pattern for all rules, and one per rule.

    The first always matches and consumes nothing; its group i + 1 is the match of rule i, if it matches. In the others,
    group 1 is the token.
    """
    all_rules = "".join(f"(?=({rule.token}{rule.lookahead})|)" for rule in RULES)
    single = (re.compile(f"({rule.token}){rule.lookahead}", re.DOTALL) for rule in RULES)
    return re.compile(all_rules, re.DOTALL), tuple(single)


def _next_token(kinds: str, start: int) -> tuple[Rule, int]:
    """The rule with the longest match at `start`, among equals the first, and the end of its token."""
    all_rules, single = _lexer()
    found = all_rules.match(kinds, start)
    assert found is not None  # it matches even where no rule does
    ends = [end for _, end in found.regs[1:]]
    end = max(ends)
    winner = ends.index(end)
    if RULES[winner].lookahead:
        token = single[winner].match(kinds, start)
        assert token is not None  # the rule has matched above
        end = token.end(1)
    return RULES[winner], end


def _all_tokens(text: str, following: str) -> Iterator[str]:
    """Every token of the text, with punctuation, in lower case. The text has no line break."""
    kinds = character_kinds(text) + following
    start = 0
    while start < len(text):
        rule, end = _next_token(kinds, start)
        token = rule.transform(text[start:end])
        if token:
            yield token.lower()
        start = end


def _tokens(text: str, following: str) -> tuple[str, ...]:
    """The tokens of the text without punctuation."""
    if text.isascii() and text.isalpha() and text.lower() not in _SPLIT_WORDS:
        return (text.lower(),)
    return tuple(token for token in _all_tokens(text, following) if token not in PUNCTUATION)


_cached_tokens = lru_cache(maxsize=2**16)(_tokens)  # captions repeat most of their pieces


def ptb_tokenize(caption: str) -> list[str]:
    """The tokens of one caption, in lower case, without COCO's punctuation. Takes any string.

    A token has no space, except a no-break space in a mixed fraction, a telephone number or a tag.

    >>> ptb_tokenize("A dog isn't riding the black-and-white horse.")
    ['a', 'dog', 'is', "n't", 'riding', 'the', 'black-and-white', 'horse']
    """
    caption = LINE_BREAKS.sub(" ", caption).rstrip(" ")
    if _SPACE_MATTERS.search(caption):
        return list(_tokens(caption, _NEXT_CAPTION))
    *chunks, last = caption.split(" ")
    tokens: list[str] = []
    for chunk in chunks:
        tokens += _cached_tokens(chunk, _NEXT_WORD)
    tokens += _cached_tokens(last, _NEXT_CAPTION)
    return tokens
