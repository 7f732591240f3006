"""Beam search over a batch of images: the search itself, whatever computes the decoder's steps.

An image has K = `beam_width` places. At each step its open hypotheses are extended by every token, and the most
probable extensions take the free places. One that ends with <END> is finished and keeps its place. So each image ends
with K hypotheses, and a beam of width 1 is greedy search. This is the search in the code that Xu et al. released with
Show, Attend and Tell (2015).

`DecoderRows` computes the wide part: one step of the decoder for all rows, and the best K of V tokens of each row.
`captioner.decode.beam` does it with torch, `captioner.runtime` with onnxruntime and NumPy; this module imports neither.
The narrow part, at most K·K candidates per image, is ranked in Python in double precision. A hypothesis keeps its row
at each step, as back pointers to its attention; no history of scores is stored.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from captioner.config import DecodeConfig
from captioner.decode.forbidden_tokens import MASKED
from captioner.decode.hypothesis import USUAL_LENGTH, Hypothesis, PartialHypothesis, check_not_nan
from captioner.decode.repetition import repetition_gain, tokens_to_rank
from captioner.errors import ConfigError
from captioner.text.phrases import PhraseStatistics
from captioner.text.vocabulary import SpecialTokens
from captioner.text.word_preferences import NO_PREFERENCES, Transfer, WordPreferences


@runtime_checkable
class DecoderRows(Protocol):
    """The rows (hypotheses) of a search in the arrays of some library; the rows of one image are adjacent.

    A new one has one row per image, before the first token.
    """

    def step(self, tokens: Sequence[int]) -> Any:
        """Read one token per row; returns the attention weights (N, P), or None. The logits are kept."""

    def move_probability(self, transfers: Sequence[Sequence[Transfer]]) -> None:
        """Change the logits that the step has left: what moves between the tokens of each row, one after the other."""

    def best_tokens(
        self, hypotheses: Sequence[PartialHypothesis], count: int, gains: Sequence[Mapping[int, float]] | None = None
    ) -> tuple[list[list[int]], list[list[float]]]:
        """The `count` most probable tokens that may follow `hypotheses[row]`, and their log-probabilities, by row.

        The best first, and among equals the lowest token id. Log-probabilities are under the decoder's own softmax,
        before forbidden tokens are masked; those of masked tokens are -inf. gains[row]: what is added to the
        log-probabilities of some tokens, also in the result.
        """

    def select(self, rows: Sequence[int], images: Sequence[int] | None) -> None:
        """Continue with row rows[i] as row i, of the images at these positions; None: of all images."""

    def stack(self, weights: Sequence[Any]) -> Any:
        """One array (T, P) of T ≥ 1 rows of attention weights."""


def beam_search(
    decoder_rows: DecoderRows,
    images: int,
    config: DecodeConfig,
    special: SpecialTokens,
    n_best: int = 1,
    phrases: PhraseStatistics | None = None,
    preferences: Sequence[WordPreferences] | None = None,
) -> list[list[Hypothesis]]:
    """The `n_best` hypotheses of every image, at most `beam_width`, best first; unfinished ones come last.

    preferences: of each image; what they add to a hypothesis counts as if it were log-probability. Where they move
    probability between words, log-probabilities are those after it.

    The search of an image stops as soon as they are certain. A larger `n_best` takes longer and never changes the first
    ones. ConfigError for n_best < 1.
    """
    check_n_best(n_best)
    n_best = min(n_best, config.beam_width)
    beams = [_Beam(image, preferences[image] if preferences else NO_PREFERENCES) for image in range(images)]
    active, width = beams, 1  # the beams still being searched, and the number of rows of each
    hypotheses = [PartialHypothesis() for _ in active]  # one per row
    tokens = [special.start] * len(active)
    attention: list[Any] = []

    while active:
        attention.append(decoder_rows.step(tokens))
        wanted = None if preferences is None else [one.preferences for one in active for _ in range(width)]
        count = tokens_to_rank(config, config.beam_width, len(hypotheses[0].tokens))
        best_tokens, log_probs = preferred_tokens(decoder_rows, hypotheses, count, wanted)
        for position, image_beam in enumerate(active):
            image_beam.advance(position * width, best_tokens, log_probs, config, special.end, phrases)
        remaining = [i for i, image_beam in enumerate(active) if not image_beam.is_settled(n_best, config)]
        if not remaining:
            break
        all_remain = len(remaining) == len(active)
        active = [active[position] for position in remaining]
        width = max(len(image_beam.open) for image_beam in active)
        hypotheses = [hypothesis for image_beam in active for hypothesis in _pad_to_width(width, image_beam.open)]
        tokens = [hypothesis.tokens[-1] for hypothesis in hypotheses]
        decoder_rows.select([hypothesis.rows[-1] for hypothesis in hypotheses], None if all_remain else remaining)

    penalty = config.length_penalty
    return [
        [
            hypothesis.complete(attention, penalty, decoder_rows.stack)
            for hypothesis in image_beam.ranked(penalty)[:n_best]
        ]
        for image_beam in beams
    ]


def preferred_tokens(
    decoder_rows: DecoderRows,
    hypotheses: Sequence[PartialHypothesis],
    count: int,
    preferences: Sequence[WordPreferences] | None,
) -> tuple[list[list[int]], list[list[float]]]:
    """`DecoderRows.best_tokens`, with what the preferences of each row add and move."""
    if preferences is None:
        return decoder_rows.best_tokens(hypotheses, count)
    of_rows = list(zip(preferences, hypotheses, strict=True))
    decoder_rows.move_probability([wanted.next_transfers(one.tokens) for wanted, one in of_rows])
    return decoder_rows.best_tokens(hypotheses, count, [wanted.next_gains(one.tokens) for wanted, one in of_rows])


def best_possible_score(
    hypotheses: Iterable[PartialHypothesis], preferences: WordPreferences, config: DecodeConfig
) -> float:
    """An upper bound of the scores of all captions that begin with one of these open hypotheses.

    A log-probability never increases, with `repetition_penalty` neither, and dividing it by the greatest length,
    max_length words and <END>, gives the highest score: log_prob / (max_length + 1)**length_penalty bounds every
    extension of an open hypothesis, also one that `implausible_penalty` ranks lower. With preferences, the most that it
    can still gain is added.
    """
    longest, usual = (math.pow(length, config.length_penalty) for length in (config.max_length + 1, USUAL_LENGTH))
    return max((one.log_prob + one.repetition) / longest + preferences.bound(one.tokens) / usual for one in hypotheses)


def check_n_best(n_best: int) -> None:
    """ConfigError for n_best < 1."""
    if n_best < 1:
        raise ConfigError(f"n_best={n_best}: expected 1 or more hypotheses per image.")


@dataclass
class _Beam:
    """The hypotheses of one image."""

    image: int
    preferences: WordPreferences
    open: list[PartialHypothesis] = field(default_factory=lambda: [PartialHypothesis()])  # most probable first
    finished: list[PartialHypothesis] = field(default_factory=list)  # in the order in which they were found
    at_end: bool = False  # whether the open hypotheses cannot be extended

    def advance(
        self,
        first: int,
        tokens: list[list[int]],
        log_probs: list[list[float]],
        config: DecodeConfig,
        end: int,
        phrases: PhraseStatistics | None = None,
    ) -> None:
        """Extend the open hypotheses, which are in rows `first`, `first` + 1, … of the batch.

        tokens[row], log_probs[row]: the row's most probable tokens and their log-probabilities, with gains.
        """
        candidates = []
        for row, hypothesis in enumerate(self.open, start=first):
            gains, value, repetition = self.preferences.next_gains(hypothesis.tokens), hypothesis.value, 0.0
            for token, log_prob in zip(tokens[row], log_probs[row], strict=True):
                if log_prob > MASKED:
                    gain = gains.get(token, 0.0)
                    if config.repetition_penalty > 1:
                        repetition = repetition_gain(token, log_prob - gain, hypothesis.tokens, config)
                    candidates.append((-(value + log_prob + repetition), row, token, log_prob - gain, gain, repetition))
                else:
                    check_not_nan(log_prob, self.image, len(hypothesis.tokens))
        candidates.sort()  # among equals the better hypothesis first, then the lower token id
        places = config.beam_width - len(self.finished)
        extended, ended_rows = [], set()
        for _, row, token, log_prob, gain, repetition in candidates[:places]:
            hypothesis = self.open[row - first]
            if token == end:
                self.finished.append(hypothesis.end(log_prob, penalty(hypothesis.tokens, config, phrases)))
                ended_rows.add(row)
            else:
                extended.append(hypothesis.append(token, log_prob, row, gain, repetition))
        if not candidates or len(self.open[0].tokens) == config.max_length:
            # No token may follow: the hypotheses that did not end here stay as they are, unfinished.
            self.open = [hypothesis for row, hypothesis in enumerate(self.open, start=first) if row not in ended_rows]
            self.at_end = True
        else:
            self.open = extended

    def is_settled(self, n_best: int, config: DecodeConfig) -> bool:
        """Whether the `n_best` are certain: no open hypothesis can still become one of them.

        One that is found later needs a strictly higher score.
        """
        if self.at_end or not self.open:
            return True
        if len(self.finished) < n_best:
            return False
        scores = sorted((hypothesis.score(config.length_penalty) for hypothesis in self.finished), reverse=True)
        return scores[n_best - 1] >= best_possible_score(self.open, self.preferences, config)

    def ranked(self, length_penalty: float) -> list[PartialHypothesis]:
        """The finished hypotheses, then the unfinished, each by decreasing score; equal ones as they were found."""
        return sorted(
            [*self.finished, *self.open],
            key=lambda hypothesis: (not hypothesis.finished, -hypothesis.score(length_penalty)),
        )


def penalty(tokens: tuple[int, ...], config: DecodeConfig, phrases: PhraseStatistics | None) -> float:
    """`implausible_penalty` for a caption with an implausible phrase, else 0."""
    if phrases is None or not config.implausible_penalty:
        return 0.0
    return config.implausible_penalty if phrases.find(tokens) else 0.0


def _pad_to_width(width: int, hypotheses: list[PartialHypothesis]) -> list[PartialHypothesis]:
    """The hypotheses, and copies of the first one for unused rows: every image has as many rows as the widest."""
    return (hypotheses + hypotheses[:1] * width)[:width]
