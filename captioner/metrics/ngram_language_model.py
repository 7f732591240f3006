"""N-gram language models: the baseline of a recurrent language model.

    p_k(w | h) = (c(h w) + t(h) · p_{k−1}(w | h')) / (c(h) + t(h))        Witten & Bell 1991, method C, interpolated

h are the k tokens before w and h' the last k−1 of them; c are counts in the training text, t(h) is the number of
distinct tokens that follow h there. p_{−1} is the uniform distribution. If h does not occur there, p_k = p_{k−1}.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

Followers = dict[int, int]


class NgramLanguageModel:
    """An interpolated model of contexts of up to `order` tokens; order 0 is the unigram model."""

    def __init__(self, tokens: Sequence[int], order: int, vocabulary_size: int) -> None:
        self.order = order
        self.vocabulary_size = vocabulary_size
        self._counts: list[dict[tuple[int, ...], Followers]] = []
        for k in range(order + 1):
            counts: dict[tuple[int, ...], Followers] = defaultdict(dict)
            for i in range(k, len(tokens)):
                followers = counts[tuple(tokens[i - k : i])]
                followers[tokens[i]] = followers.get(tokens[i], 0) + 1
            self._counts.append(dict(counts))
        self._totals = [{context: sum(f.values()) for context, f in counts.items()} for counts in self._counts]

    def probabilities(self, context: Sequence[int], token: int) -> list[float]:
        """p_k(token | last k tokens of `context`) for k = 0 … order; a short context repeats its last value."""
        probability, found = 1 / self.vocabulary_size, []
        for k in range(self.order + 1):
            history = tuple(context[len(context) - k :]) if k <= len(context) else None
            followers = self._counts[k].get(history) if history is not None else None
            if followers:
                total, types = self._totals[k][history], len(followers)  # type: ignore[index]
                probability = (followers.get(token, 0) + types * probability) / (total + types)
            found.append(probability)
        return found

    def bits(self, tokens: Sequence[int]) -> list[float]:
        """Bits per token of a text, for each order from 0. The first tokens have shorter contexts."""
        sums = [0.0] * (self.order + 1)
        for i, token in enumerate(tokens):
            for k, probability in enumerate(self.probabilities(tokens[max(0, i - self.order) : i], token)):
                sums[k] -= math.log2(probability)
        return [total / len(tokens) for total in sums]
