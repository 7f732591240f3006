"""The COCO evaluation's tokenizer in pure Python: Penn Treebank tokens, in lower case, without punctuation.

The official caption metrics are defined on the tokens of Stanford CoreNLP 3.4.1's PTBTokenizer; other tokens give other
scores. This module gives the same tokens without Java, and faster. `docs/tokenizer.md` describes how that was tested
and lists the remaining differences.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain

from captioner.text.ptb_characters import character_kinds
from captioner.text.ptb_rules import RULES, SPLIT_WORDS, Rule

PUNCTUATION = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])
"""The tokens that the COCO evaluation removes.

Its list also has `-LRB-` and similar names, in capitals; tokens are in lower case, so brackets are kept.
"""

CAPTION_END = "\n"
"""What ends a caption among the tokens of many. No token has a line break."""

LINE_BREAKS = re.compile("[\n\r\v\f\u2028\u2029]")
"""What Java reads as the end of a line, and so of a caption. Here it is a space."""

# The text after a piece, for the rules' lookahead. After a caption the official tokenizer reads the next caption, and
# most begin like this. It matters for a caption that ends in a letter and a full stop ("platform K.").
_NEXT_CAPTION = "\nA "
_NEXT_WORD = " a"

# Where a space is more than a separator of words: 1 1/2, (020) 7946, . . ., <a b>; I. Then, no. 5; other white space.
_SPACE_MATTERS = re.compile(r"<|[\d).]\s[\d.]|[A-Za-z]\.\s+(?:[A-Z]|$)| [^\S ]")

# What `_SPACE_MATTERS` needs before the last character of ASCII text: most captions have nothing of it.
_RARE = re.compile(r"[<\d).\t-\r\x1c-\x1f]")

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


Piece = str | tuple[str, ...]
"""A part of a text, or its tokens."""


class _Pieces(dict[Piece, tuple[str, ...]]):
    """Piece → tokens, because captions repeat most of their pieces. The last piece of a caption ends in CAPTION_END,
    and so do its tokens."""

    def __missing__(self, piece: Piece) -> tuple[str, ...]:
        if isinstance(piece, tuple):
            return piece
        if len(self) >= _MOST_PIECES:
            self.clear()
        if piece.endswith(CAPTION_END):
            self[piece] = tokens = (*_tokens(piece[:-1], _NEXT_CAPTION), CAPTION_END)
        else:
            self[piece] = tokens = _tokens(piece, _NEXT_WORD)
        return tokens


_MOST_PIECES = 2**16
_PIECES = _Pieces()


def ptb_tokenize(caption: str) -> list[str]:
    """The tokens of one caption, in lower case, without COCO's punctuation. Takes any string.

    A token has no space, except a no-break space in a mixed fraction, a telephone number or a tag.

    >>> ptb_tokenize("A dog isn't riding the black-and-white horse.")
    ['a', 'dog', 'is', "n't", 'riding', 'the', 'black-and-white', 'horse']
    """
    return ptb_tokenize_all([caption])[0]


def ptb_tokenize_all(captions: Sequence[str]) -> list[list[str]]:
    """`ptb_tokenize` for many captions, several times as fast."""
    flat = list(chain.from_iterable(map(_PIECES.__getitem__, ptb_pieces(captions))))
    found, start = [], 0
    for _ in captions:
        end = flat.index(CAPTION_END, start)
        found.append(flat[start:end])
        start = end + 1
    return found


def ptb_pieces(captions: Sequence[str]) -> Sequence[Piece]:
    """All captions in pieces, one after the other. `tokens_of_piece` gives their tokens; CAPTION_END ends a caption.

    A piece is text between spaces or, of a caption that must be read as a whole, its tokens.
    """
    pieces: list[Piece] = []
    divided: list[str] = []  # the captions since the last one that had to be read as a whole
    for caption in captions:
        if not caption.isprintable():
            caption = LINE_BREAKS.sub(" ", caption)
        caption = caption.rstrip(" ")
        if (not caption.isascii() or _RARE.search(caption, 0, len(caption) - 1) or caption.endswith("<")) and (
            _SPACE_MATTERS.search(caption)
        ):
            pieces.extend(_divide(divided))
            pieces.append((*_tokens(caption, _NEXT_CAPTION), CAPTION_END))
            divided = []
        else:
            divided.append(caption + CAPTION_END)
    return [*pieces, *_divide(divided)] if pieces else _divide(divided)


def _divide(captions: Sequence[str]) -> list[str]:
    return " ".join(captions).split(" ") if captions else []


def tokens_of_piece(piece: Piece) -> tuple[str, ...]:
    """The tokens of a piece of `ptb_pieces`."""
    return _PIECES[piece]
