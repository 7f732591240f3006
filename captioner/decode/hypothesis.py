"""What a search is given (a decoder that can take one step) and what it gives back (hypotheses).

How a caption is counted, here and in every search: its *words* are its tokens without <START> and
<END>; its *log-probability* is the sum of ln p(token | image, tokens before) over the words and, where
it is finished, over <END>, each under the model's own softmax over the whole vocabulary: neither
forbidden words nor a temperature change it, so it is what scoring the caption again would give.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Hypothesis:
    """One caption that a search found for one image."""

    tokens: tuple[int, ...]  # the words' numbers, without <START> and <END>
    log_prob: float  # nats; see the top of this module
    score: float  # log_prob / length**length_penalty, by which beam search ranks
    finished: bool  # did it reach <END>? False: cut at max_length, or nothing more was allowed
    attention: Float[Tensor, "T P"] | None = field(default=None, compare=False, repr=False)  # a row a word


class PartialHypothesis(NamedTuple):
    """A hypothesis while it grows."""

    words: tuple[int, ...] = ()
    log_prob: float = 0.0
    rows: tuple[int, ...] = ()  # the row of the batch it stood in at each step: where its attention is
    finished: bool = False

    def append(self, word: int, log_prob: float, row: int) -> PartialHypothesis:
        """One word longer; `log_prob` is the word's own, `row` where the decoder said it."""
        return PartialHypothesis((*self.words, word), self.log_prob + log_prob, (*self.rows, row))

    def end(self, log_prob: float) -> PartialHypothesis:
        """Finished; `log_prob` is that of <END>."""
        return PartialHypothesis(self.words, self.log_prob + log_prob, self.rows, finished=True)

    def score(self, length_penalty: float) -> float:
        """log_prob / length**length_penalty (the simpler form in Wu et al. 2016, section 7).

        The length is the number of tokens whose log-probabilities were summed: the words, and <END>
        where it is finished. So a penalty of 1 gives the mean log-probability of a token.
        """
        length = len(self.words) + self.finished
        return self.log_prob / math.pow(max(length, 1), length_penalty)

    def hypothesis(self, attention: Sequence[Tensor | None], length_penalty: float) -> Hypothesis:
        """The result. `attention[t]`: (N, P), what the decoder returned at step t."""
        # The step that said <END> has no word, so no row: `attention` may be longer than `rows`.
        looked = [step[row] for step, row in zip(attention, self.rows, strict=False) if step is not None]
        of_no_words = None if attention[0] is None else attention[0][:0]
        weights = torch.stack(looked) if looked else of_no_words
        return Hypothesis(self.words, self.log_prob, self.score(length_penalty), self.finished, weights)
