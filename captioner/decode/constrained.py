"""Constrained beam search: captions that have certain words or phrases, and lack others (Anderson et al. 2017).

A finite-state machine reads a caption: its state says which requirements are met, and how much of a required phrase
has just been read. Every state has a beam of its own, of `beam_width` hypotheses, so that one which has a required word
does not compete with more probable ones that lack it (section 3.2). Only the states in which all is met may end.
"""

from __future__ import annotations

import math
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from captioner.config import DecodeConfig
from captioner.decode.beam_search import DecoderRows
from captioner.decode.forbidden_tokens import MASKED
from captioner.decode.hypothesis import Hypothesis, PartialHypothesis, check_not_nan
from captioner.errors import ConfigError
from captioner.text.vocabulary import SpecialTokens

Phrase = tuple[int, ...]
State = tuple[int, Phrase]
"""(bit r is set where requirement r is met, the longest part of a required phrase that the caption ends with)"""


@dataclass(frozen=True)
class Constraints:
    """What a caption must have and must not have, in token ids.

    required: of each requirement the phrases of which one must occur, as adjacent tokens. excluded: phrases that must
    not occur. ConfigError for a requirement without a phrase, an empty phrase and more than ten requirements.
    """

    required: tuple[tuple[Phrase, ...], ...] = ()
    excluded: tuple[Phrase, ...] = ()

    def __post_init__(self) -> None:
        if len(self.required) > 10:
            raise ConfigError(f"{len(self.required)} requirements: expected at most 10, each doubles the search.")
        if not all(self.required) or not all(map(all, self.required)) or not all(self.excluded):
            raise ConfigError("A requirement needs a phrase, and a phrase needs a word.")

    @cached_property
    def tokens(self) -> frozenset[int]:
        """The tokens of all phrases; the others change no requirement."""
        phrases = (*(phrase for one in self.required for phrase in one), *self.excluded)
        return frozenset(token for phrase in phrases for token in phrase)

    @property
    def all_met(self) -> int:
        """The bits of all requirements."""
        return (1 << len(self.required)) - 1

    def next_state(self, state: State, tokens: Phrase) -> State:
        """The state after `tokens`, whose last one was read in `state`."""
        met = state[0]
        for number, phrases in enumerate(self.required):
            if any(tokens[-len(phrase) :] == phrase for phrase in phrases):
                met |= 1 << number
        open_phrases = [
            phrase for number, phrases in enumerate(self.required) if not met >> number & 1 for phrase in phrases
        ]
        parts = {phrase[:length] for phrase in open_phrases for length in range(1, len(phrase))}
        read = max((part for part in parts if tokens[-len(part) :] == part), key=len, default=())
        return met, read

    def excludes(self, tokens: Phrase) -> bool:
        """Whether the last token completes an excluded phrase."""
        return any(tokens[-len(phrase) :] == phrase for phrase in self.excluded)


def constrained_beam_search(
    rows: DecoderRows, constraints: Sequence[Constraints], config: DecodeConfig, special: SpecialTokens, n_best: int = 1
) -> list[list[Hypothesis]]:
    """At most `n_best` hypotheses of every image that meet its constraints, best first.

    rows: of a new search, one per image. Where none could be finished within `max_length` words, one hypothesis that is
    unfinished and meets the most.
    """
    beams = [_Beams(image, of_image) for image, of_image in enumerate(constraints)]
    active, width = beams, 1
    hypotheses = [PartialHypothesis() for _ in active]
    tokens, attention = [special.start] * len(active), list[Any]()
    while active:
        attention.append(rows.step(tokens))
        best_tokens, log_probs = rows.best_tokens(hypotheses, sys.maxsize)  # all of them
        for position, of_image in enumerate(active):
            of_image.advance(position * width, best_tokens, log_probs, config, special.end)
        remaining = [place for place, of_image in enumerate(active) if not of_image.is_settled(n_best, config)]
        if not remaining:
            break
        all_remain = len(remaining) == len(active)
        active = [active[place] for place in remaining]
        width = max(len(of_image.open) for of_image in active)
        hypotheses = [(one.hypotheses + one.hypotheses[:1] * width)[i] for one in active for i in range(width)]
        tokens = [hypothesis.tokens[-1] for hypothesis in hypotheses]
        rows.select([hypothesis.rows[-1] for hypothesis in hypotheses], None if all_remain else remaining)
    penalty = config.length_penalty
    return [
        [one.complete(attention, penalty, rows.stack) for one in of_image.ranked(penalty)[:n_best]]
        for of_image in beams
    ]


@dataclass
class _Beams:
    """The hypotheses of one image: those of all states in one list."""

    image: int
    constraints: Constraints
    open: list[tuple[State, PartialHypothesis]] = field(default_factory=lambda: [((0, ()), PartialHypothesis())])
    finished: list[PartialHypothesis] = field(default_factory=list)
    at_end: bool = False

    @property
    def hypotheses(self) -> list[PartialHypothesis]:
        return [hypothesis for _, hypothesis in self.open]

    def advance(
        self, first: int, tokens: list[list[int]], log_probs: list[list[float]], config: DecodeConfig, end: int
    ) -> None:
        """Extend every open hypothesis by every token, and keep the best `beam_width` of each state."""
        by_state: dict[State, list[tuple[float, int, int, float]]] = defaultdict(list)
        ended = set[int]()
        longest = len(self.open[0][1].tokens) == config.max_length
        for row, (state, hypothesis) in enumerate(self.open, start=first):
            others = 0
            for token, log_prob in zip(tokens[row], log_probs[row], strict=True):
                check_not_nan(log_prob, self.image, len(hypothesis.tokens))
                if log_prob == MASKED:
                    break  # those that follow are masked, too
                if token == end:
                    if state[0] == self.constraints.all_met:
                        self.finished.append(hypothesis.end(log_prob))
                        ended.add(row)
                    continue
                if token not in self.constraints.tokens:
                    others += 1
                    if others > config.beam_width:  # they all lead to the same state, and better ones came before
                        continue
                read = (*hypothesis.tokens, token)
                if not longest and not self.constraints.excludes(read):
                    after = self.constraints.next_state(state, read)
                    by_state[after].append((-(hypothesis.log_prob + log_prob), row, token, log_prob))
        if longest or not by_state:
            self.open = [one for row, one in enumerate(self.open, start=first) if row not in ended]
            self.at_end = True
            return
        self.open = [
            (state, self.open[row - first][1].append(token, log_prob, row))
            for state, candidates in by_state.items()
            for _, row, token, log_prob in sorted(candidates)[: config.beam_width]
        ]

    def is_settled(self, n_best: int, config: DecodeConfig) -> bool:
        """Whether no open hypothesis can still become one of the `n_best`: see `beam_search`."""
        if self.at_end or not self.open:
            return True
        if len(self.finished) < n_best:
            return False
        best = sorted((one.score(config.length_penalty) for one in self.finished), reverse=True)
        longest = math.pow(config.max_length + 1, config.length_penalty)
        return best[n_best - 1] >= max(one.log_prob for one in self.hypotheses) / longest

    def ranked(self, length_penalty: float) -> list[PartialHypothesis]:
        """The finished hypotheses by score; without any, the unfinished by what they meet and by score."""
        if self.finished:
            return sorted(self.finished, key=lambda one: -one.score(length_penalty))
        order = sorted(self.open, key=lambda one: (-one[0][0].bit_count(), -one[1].score(length_penalty)))
        return [hypothesis for _, hypothesis in order[:1]]
