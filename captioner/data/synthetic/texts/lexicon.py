"""The words of the generated text."""

from __future__ import annotations


def _list(words: str) -> tuple[str, ...]:
    return tuple(words.split())


NOUNS = _list(
    "river bridge letter garden window engine harbour mountain teacher doctor painter farmer sailor village forest "
    "storm winter summer kitchen station question answer mirror candle shadow engineer neighbour field market tower "
    "island lantern machine signal circle theorem number proof limit function method example"
)
NAMES = _list("Anna Peter Maria Johann Clara Viktor Elena Martin Sofia Daniel Nora Felix")
ADJECTIVES = _list(
    "old small quiet bright narrow heavy gentle broken distant simple careful early green silver wooden frozen "
    "famous patient sudden curious regular finite empty warm"
)
VERBS = _list(
    "find follow leave remember cross hold open watch carry describe build break repair count measure draw approach "
    "reach support change"
)
ADVERBS = _list("slowly again often never quickly always almost quietly")
PLACES = (
    "near the river",
    "behind the station",
    "in the garden",
    "across the field",
    "on the island",
    "under the bridge",
    "at the market",
    "beyond the mountains",
    "in the first chapter",
    "before the war",
)
CONNECTIVES = _list("but and while because although so")
SAYING = _list("said asked answered whispered replied wrote")

CODE_VERBS = _list("read write find copy merge check count open close reset push free sort update parse")
CODE_THINGS = _list("node table buffer list entry block page file token queue line key frame")
VARIABLES = _list("i j n count size len index offset total flags value next start end depth")
FIELDS = _list("size next flags count data length parent owner")
CONSTANTS = _list("MAX_SIZE BUF_LEN NULL EINVAL FLAG_BUSY FLAG_DIRTY PAGE_SIZE DEPTH_LIMIT")
MESSAGES = (
    "cannot open %s",
    "out of memory",
    "%d entries left",
    "bad token at line %d",
    "table is full (%d of %d)",
    "done",
    "unexpected end of file",
    "skipping %s: too long",
)

LETTERS = _list("a b c n k x y z")
GREEK = _list(r"\alpha \beta \lambda \theta \sigma")
RELATIONS = _list(r"= < \le \ge")
