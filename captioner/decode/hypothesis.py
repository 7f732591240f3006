"""Hypotheses: the results of a search, and while they are built.

In every search, a caption's tokens do not include <START> and <END>. Its log-probability is the sum of
ln p(token | image, tokens before) over its tokens and, if it is finished, over <END>, each under the model's own
softmax over the whole vocabulary. Masked tokens and a temperature do not change it, so scoring the caption again gives
the same value. Only what `WordPreferences` move between tokens does: then it is under the softmax after that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from captioner.errors import CaptionerError

USUAL_LENGTH = 10  # tokens of a caption


@dataclass(frozen=True)
class Hypothesis:
    """One caption that a search found for one image."""

    tokens: tuple[int, ...]  # token ids, without <START> and <END>
    log_prob: float  # in nats; see the module's docstring
    score: float  # by which beam search ranks: log_prob / length**length_penalty, less implausible_penalty, with gains
    # and with the weighed likeness to the predicted consensus (`captioner.decode.consensus`)
    finished: bool  # whether it reached <END>; False: cut at max_length, or no token was allowed
    attention: Any = field(default=None, compare=False, repr=False)  # (T, P), one row per token, or None
    unmet: int = 0  # of an unfinished caption: requirements of a constrained search that it does not meet

    @property
    def rank(self) -> tuple[bool, int, float]:
        """Lower is better: finished ones first, then those that lack the least, then by score."""
        return not self.finished, self.unmet, -self.score


class PartialHypothesis(NamedTuple):
    """A hypothesis while it is built."""

    tokens: tuple[int, ...] = ()
    log_prob: float = 0.0
    rows: tuple[int, ...] = ()  # its row in the batch at each step, for its attention
    finished: bool = False
    penalty: float = 0.0  # what its score is lowered by
    gain: float = 0.0  # what the words it has are worth besides their probability: `WordPreferences`
    repetition: float = 0.0  # what `repetition_penalty` has added to its log-probability

    @property
    def value(self) -> float:
        """What hypotheses of one length compete by."""
        return self.log_prob + self.gain + self.repetition

    def append(
        self, token: int, log_prob: float, row: int, gain: float = 0.0, repetition: float = 0.0
    ) -> PartialHypothesis:
        """The hypothesis with one more token; `log_prob`: the token's, `row`: the decoder's row that predicted it.

        gain, repetition: what the token is worth besides.
        """
        return self._replace(
            tokens=(*self.tokens, token),
            log_prob=self.log_prob + log_prob,
            rows=(*self.rows, row),
            gain=self.gain + gain,
            repetition=self.repetition + repetition,
        )

    def end(self, log_prob: float, penalty: float = 0.0) -> PartialHypothesis:
        """The finished hypothesis; `log_prob`: that of <END>, `penalty`: what its score is lowered by."""
        return self._replace(log_prob=self.log_prob + log_prob, finished=True, penalty=penalty)

    def score(self, length_penalty: float) -> float:
        """log_prob / length**length_penalty (the simpler form in Wu et al. 2016, section 7), less the penalty.

        `repetition_penalty` counts as log-probability. The length is the number of tokens whose log-probabilities are
        summed, with <END> if it is finished. So a penalty of 1 gives the mean log-probability per token. A gain counts
        as if every caption had USUAL_LENGTH tokens, so that it does not favor short captions.
        """
        length = len(self.tokens) + self.finished
        gain = self.gain / math.pow(USUAL_LENGTH, length_penalty)
        log_prob = self.log_prob + self.repetition
        return log_prob / math.pow(max(length, 1), length_penalty) + gain - self.penalty

    def complete(
        self, attention: Sequence[Any], length_penalty: float, stack: Callable[[Sequence[Any]], Any], unmet: int = 0
    ) -> Hypothesis:
        """The result. attention[t]: the (N, P) weights that the decoder returned at step t, or None.

        stack: makes one array of rows of weights. unmet: as in `Hypothesis`.
        """
        # The step of <END> has no row, so `attention` may be longer than `rows`.
        weights = [step[row] for step, row in zip(attention, self.rows, strict=False) if step is not None]
        without_tokens = None if attention[0] is None else attention[0][:0]
        stacked = stack(weights) if weights else without_tokens
        return Hypothesis(self.tokens, self.log_prob, self.score(length_penalty), self.finished, stacked, unmet)


def check_not_nan(log_prob: float, image: int, position: int) -> None:
    """CaptionerError for a log-probability that is NaN: every token after it would be meaningless."""
    if log_prob != log_prob:
        raise CaptionerError(
            f"The decoder's scores for image {image} (counted from 0) at word {position + 1} are not numbers (NaN): "
            "its weights have diverged or its features are not finite. Use an earlier checkpoint, or train with a "
            "smaller optim.learning_rate."
        )
