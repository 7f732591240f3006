"""METEOR's search for the alignment of `alignment.align`, for many pairs of captions at once.

The hypotheses of all pairs are rows of arrays; a step extends all of them by one word of their references.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from captioner.metrics.meteor.alignment import BEAM, EXACT
from captioner.metrics.meteor.candidates import Candidates
from captioner.metrics.ngrams import Integers
from captioner.metrics.ragged import ranges, starts_of

LONGEST_CAPTION = 60  # words: those of a hypothesis are the bits of an integer

# The three criteria in one integer, the first in the highest bits: weighted words, at most 120, subtracted from _START;
# chunks, at most 60; distance, at most 60 words times 6,000 candidates times 60. Above them is the pair, to sort by.
_CHUNK, _WORD, _START, _PAIR_BIT = 1 << 28, 1 << 35, 1 << 42, 43
_NO_CHUNK, _NO_LINK = -1, -2
_FIRST = np.int64(1)


class Alignments(NamedTuple):
    """The chosen matches of P pairs. pair, candidate: of each match, in any order. chunks: (P,)."""

    pair: Integers
    candidate: Integers
    chunks: Integers


class _Options(NamedTuple):
    """What may be done at the words of the references: match a candidate, or skip the word.

    firsts, counts: of each word, which options it has. The others are of each option; the last one is to stay inside a
    phrase that is matched. candidate: -1 where the option is no match. start, end, used: of the hypothesis's words.
    """

    firsts: Integers
    counts: Integers
    candidate: Integers
    length: Integers
    start: Integers
    end: Integers
    used: Integers
    distance: Integers
    gain: Integers


class _Paths(NamedTuple):
    """The hypotheses of the search: those of a pair adjacent, best first. As in `alignment`; step: of the log."""

    pair: Integers
    cost: Integers
    last_end: Integers
    position: Integers
    used: Integers
    step: Integers

    def take(self, rows: Integers | slice) -> _Paths:
        return _Paths(*(column[rows] for column in self))


def align_all(candidates: Candidates, reference_lengths: Integers) -> Alignments:
    """The alignments that METEOR chooses for P pairs, whose captions have at most LONGEST_CAPTION words.

    reference_lengths: (P,), descending: pairs that are complete are then the last ones.
    """
    pairs = len(reference_lengths)
    word_starts = starts_of(reference_lengths)
    options = _options(candidates, word_starts)
    last_branch = np.zeros(pairs, np.int64)  # where the last candidate ends that is not certain
    open_ends = np.flatnonzero(~candidates.is_certain)
    np.maximum.at(last_branch, candidates.pair[open_ends], candidates.start[open_ends] + candidates.length[open_ends])
    zeros = np.zeros(pairs, np.int64)
    paths = _Paths(np.arange(pairs), zeros + _START, zeros + _NO_CHUNK, zeros, zeros, zeros - 1)
    log: list[tuple[Integers, Integers]] = []  # of each step: the steps before, the candidates
    steps = 0
    finished: list[_Paths] = []
    for position in range(int(reference_lengths.max(initial=0))):
        active = int(np.searchsorted(-reference_lengths, -position))
        if active < pairs:
            rows = int(np.searchsorted(paths.pair, active))
            finished.append(paths.take(slice(rows, None)))
            paths, pairs = paths.take(slice(rows)), active
        beam = np.where(position >= last_branch[:pairs], 1, BEAM)
        parent, option, cost = _extend(paths, position, word_starts, options)
        if len(parent) > pairs:
            best = _best(paths.pair[parent], cost, beam)
            parent, option, cost = parent[best], option[best], cost[best]
        log.append((paths.step[parent], options.candidate[option]))
        paths = _extended(paths.take(parent), position, option, cost, options, steps)
        steps += len(parent)
    finished.append(paths)
    return _chosen(_Paths(*(np.concatenate(columns) for columns in zip(*finished, strict=True))), log)


def _extend(
    paths: _Paths, position: int, word_starts: Integers, options: _Options
) -> tuple[Integers, Integers, Integers]:
    """Every path with each option at this word: its row before, the option, and the cost after it."""
    stay = len(options.candidate) - 1
    inside = paths.position > position
    word = word_starts[paths.pair] + position
    count = np.where(inside, 1, options.counts[word])
    option = np.where(inside, stay, options.firsts[word])
    parent = np.arange(len(option))
    cost = paths.cost
    if count.max(initial=1) > 1:
        option = ranges(option, count)
        parent = np.repeat(parent, count)
        is_free = (paths.used[parent] & options.used[option]) == 0
        option, parent = option[is_free], parent[is_free]
        distance = options.distance[option]
        before = np.cumsum(distance) - distance
        rows = np.bincount(parent, minlength=len(count))
        before -= np.repeat(before[np.cumsum(rows) - rows], rows)
        cost = cost[parent] + before  # with the distances of the candidates before this one
    last_end = paths.last_end[parent]
    closes = (last_end != _NO_CHUNK) & (last_end != options.start[option]) & (option != stay)
    return parent, option, cost - options.gain[option] + closes * _CHUNK


def _extended(paths: _Paths, position: int, option: Integers, cost: Integers, options: _Options, steps: int) -> _Paths:
    stays = option == len(options.candidate) - 1
    return _Paths(
        paths.pair,
        cost,
        np.where(stays, paths.last_end, options.end[option]),
        np.where(stays, paths.position, position + options.length[option]),
        paths.used | options.used[option],
        np.arange(steps, steps + len(option)),
    )


def _best(pair: Integers, cost: Integers, beam: Integers) -> Integers:
    """The rows of the best paths of each pair, at most `beam` of them, best first; of equal ones the earlier first."""
    order = np.argsort((pair << _PAIR_BIT) | cost, kind="stable")
    rows = np.bincount(pair, minlength=len(beam))
    rank = ranges(np.zeros(len(rows), np.int64), rows)
    chosen: Integers = order[rank < np.repeat(beam, rows)]
    return chosen


def _chosen(paths: _Paths, log: list[tuple[Integers, Integers]]) -> Alignments:
    """The best path of each pair, traced back."""
    cost = paths.cost + (paths.last_end != _NO_CHUNK) * _CHUNK
    pairs = int(paths.pair.max(initial=-1)) + 1
    best = _best(paths.pair, cost, np.ones(pairs, np.int64))
    pair, step = paths.pair[best], paths.step[best]
    before, candidate = (np.concatenate(arrays) for arrays in zip(*log, strict=True)) if log else (step, step)
    matches: list[tuple[Integers, Integers]] = []
    while len(step):
        pair, step = pair[step >= 0], step[step >= 0]
        matches.append((pair, candidate[step]))
        step = before[step]
    pair, candidate = (np.concatenate(arrays) for arrays in zip(*matches, strict=True)) if matches else (step, step)
    is_match = candidate >= 0
    return Alignments(pair[is_match], candidate[is_match], cost[best] % _WORD // _CHUNK)


def _options(candidates: Candidates, word_starts: Integers) -> _Options:
    """At each word its candidates and the option to skip it, which a certain match excludes."""
    words = int(word_starts[-1])
    word = word_starts[candidates.pair] + candidates.start
    candidates_at = np.bincount(word, minlength=words)
    may_skip = np.ones(words, np.int64)
    may_skip[word[candidates.is_certain]] = 0
    count = candidates_at + may_skip
    first = np.cumsum(count) - count
    is_match = np.zeros(int(count.sum()) + 1, np.bool_)
    is_match[ranges(first, candidates_at)] = True
    match = np.flatnonzero(is_match)
    _, start, length, hypothesis_start, hypothesis_length, module, _ = candidates
    halves = length // 2 + hypothesis_length // 2
    gain = np.where(module == EXACT, length + hypothesis_length, halves) * _WORD
    used = ((_FIRST << hypothesis_length) - 1) << hypothesis_start

    def column(values: Integers, otherwise: int) -> Integers:
        filled = np.full(len(is_match), otherwise)
        filled[match] = values
        return filled

    return _Options(
        first,
        count,
        column(np.arange(len(match)), -1),
        column(length, 1),
        column(hypothesis_start, _NO_LINK),
        column(hypothesis_start + hypothesis_length, _NO_CHUNK),
        column(used, 0),
        column(np.abs(start - hypothesis_start), 0),
        column(gain, 0),
    )
