"""The COCO evaluation's tokenizer in pure Python: Penn Treebank tokens, lower-cased, without punctuation.

The official caption scores are defined on what Stanford CoreNLP 3.4.1's PTBTokenizer makes of a caption,
so a score from any other tokenizer is another number.
"""

from __future__ import annotations

import re
from functools import lru_cache

PUNCTUATION = frozenset(
    ["''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";"]
)
"""What the COCO evaluation drops. Its brackets are upper case and tokens are lower case, so brackets stay."""

_CONTRACTIONS = {
    "cannot": 3, "gonna": 3, "gotta": 3, "lemme": 3, "gimme": 3, "wanna": 3,
}  # fmt: skip

_TOKEN = re.compile(
    r"""
      (?:[A-Za-z]\.){2,}
    | (?:Mr|Mrs|Ms|Dr|St|Jr|Sr|vs|etc|[A-Za-z])\.(?=\s)
    | [A-Za-z]+(?=n['’]t\b)
    | n['’]t\b
    | ['’](?:s|m|d|re|ve|ll)\b
    | [-+]?\d+(?:[.,:]\d+)*(?![\w-])
    | [^\W_]+(?:[-_/][^\W_]+)*
    | \.{3,5} | -+ | [?!]+ | \S
    """,
    re.VERBOSE | re.IGNORECASE,
)
_SYMBOLS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-", '"': "''"}


@lru_cache(maxsize=65536)
def _chunk(chunk: str) -> tuple[str, ...]:
    tokens: list[str] = []
    for token in _TOKEN.findall(chunk):
        low = _SYMBOLS.get(token, token.lower())
        if low in _CONTRACTIONS:
            cut = _CONTRACTIONS[low]
            tokens += [low[:cut], low[cut:]]
        elif low not in PUNCTUATION:
            tokens.append(low)
    return tuple(tokens)


def ptb_tokenize(caption: str) -> list[str]:
    """The tokens of one caption, lower-cased, COCO's punctuation list dropped."""
    return [token for chunk in caption.split() for token in _chunk(chunk + " ")]
