"""METEOR's alignment of a generated caption with a reference.

Candidate matches come from four modules: equal words, equal stems, synonyms and paraphrases (Denkowski and Lavie 2014,
section 2). A match whose words no other candidate touches is certain. The rest is chosen by a beam search over the
reference's words, from left to right.

The paper asks for the alignment that covers most words, has the fewest chunks and the least distance. The jar, which
defines the published scores, differs in three ways that this module reproduces:

    weights     a phrase of n words counts n where it is matched exactly, else n / 2, rounded down: a single word
                matched by stem, synonym or paraphrase counts 0, so it is taken only where it costs no chunk
    distance    the distance of a candidate is added to the hypotheses made after it at the same word (later candidates,
                and the one that skips the word), not to its own
    beam        40 hypotheses, sorted before every word; of equal ones the earlier stays first
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import NamedTuple

EXACT, STEM, SYNONYM, PARAPHRASE = range(4)
BEAM = 40

# The three criteria in one integer, the first in the highest bits: weighted words (negative), chunks, distance.
_WORD, _CHUNK = 1 << 40, 1 << 24
_SORT_KEY = itemgetter(0)


class Match(NamedTuple):
    """Words of the reference from `start` on, matched with words of the hypothesis from `hypothesis_start` on."""

    start: int
    length: int
    hypothesis_start: int
    hypothesis_length: int
    module: int


class Alignment(NamedTuple):
    """The chosen matches, in the order of the reference, and the number of their chunks.

    A chunk is a run of matches that are adjacent, in the same order, in both captions.
    """

    matches: tuple[Match, ...]
    chunks: int


_Linked = tuple[Match, object] | None  # the last match and, in the same form, those before it
_Path = tuple[int, int, int, int, _Linked]
"""A hypothesis of the search, as a plain tuple, since there are millions: (cost, last end, position, used, matches).

cost: the three criteria. last end: where the open chunk ends in the hypothesis; -1 without an open chunk. position: the
next word of the reference. used: the hypothesis's words as bits.
"""


def align(candidates: Sequence[Match], reference_length: int, hypothesis_length: int) -> Alignment:
    """The alignment that METEOR chooses; the order of `candidates` decides between equal ones."""
    by_start: list[list[Match]] = [[] for _ in range(reference_length)]
    for match in candidates:
        by_start[match.start].append(match)
    certain = _certain_matches(candidates, reference_length, hypothesis_length)
    paths: list[_Path] = [(0, -1, 0, 0, None)]
    for position in range(reference_length):
        if len(paths) > 1:
            paths.sort(key=_SORT_KEY)
            del paths[BEAM:]
        if position in certain:
            match = certain[position]
            paths = [path if path[2] > position else _extended(path, match, path[0]) for path in paths]
        else:
            paths = _expanded(paths, position, by_start[position])
    paths.sort(key=_SORT_KEY)
    cost, matches = min(
        ((cost + _CHUNK if last_end >= 0 else cost, linked) for cost, last_end, _, _, linked in paths[:BEAM]),
        key=_SORT_KEY,
    )
    return Alignment(_unlinked(matches), cost % _WORD // _CHUNK)


def _expanded(paths: list[_Path], position: int, options: list[Match]) -> list[_Path]:
    """Every path with each match that may begin at this word, and without any."""
    expanded: list[_Path] = []
    for path in paths:
        cost, last_end, next_position, used, linked = path
        if next_position > position:  # inside a phrase that is matched
            expanded.append(path)
            continue
        for match in options:
            _, _, hypothesis_start, hypothesis_length, _ = match
            if not used >> hypothesis_start & ((1 << hypothesis_length) - 1):
                expanded.append(_extended(path, match, cost))
                cost += abs(position - hypothesis_start)
        expanded.append((cost + _CHUNK if last_end >= 0 else cost, -1, position + 1, used, linked))
    return expanded


def _extended(path: _Path, match: Match, cost: int) -> _Path:
    """The path with one more match. `cost`: of the path, with the distances of the candidates before this one."""
    _, last_end, _, used, linked = path
    start, length, hypothesis_start, hypothesis_length, module = match
    words = length + hypothesis_length if module == EXACT else length // 2 + hypothesis_length // 2
    cost -= words * _WORD
    if last_end >= 0 and last_end != hypothesis_start:
        cost += _CHUNK
    end = hypothesis_start + hypothesis_length
    used |= ((1 << hypothesis_length) - 1) << hypothesis_start
    return cost, end, start + length, used, (match, linked)


def _certain_matches(candidates: Sequence[Match], reference_length: int, hypothesis_length: int) -> dict[int, Match]:
    """Start → the match there, where no other candidate touches any of its words."""
    reference, hypothesis = [0] * reference_length, [0] * hypothesis_length
    for start, length, hypothesis_start, hypothesis_words, _ in candidates:
        for word in range(start, start + length):
            reference[word] += 1
        for word in range(hypothesis_start, hypothesis_start + hypothesis_words):
            hypothesis[word] += 1
    return {
        match.start: match
        for match in candidates
        if max(reference[match.start : match.start + match.length]) == 1
        and max(hypothesis[match.hypothesis_start : match.hypothesis_start + match.hypothesis_length]) == 1
    }


def _unlinked(linked: _Linked) -> tuple[Match, ...]:
    matches: list[Match] = []
    node: object = linked
    while isinstance(node, tuple):
        match, node = node
        matches.append(match)
    return tuple(reversed(matches))
