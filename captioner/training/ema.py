"""A moving average of the weights: what is validated, kept as the best, and captioned with.

    w̄ ← d·w̄ + (1 − d)·w   after every step,   d = min(decay, (1 + step) / (10 + step))

(Polyak & Juditsky 1992; the ramp lets the average forget its random start.) The average of the last thousand steps lies
where single steps only pass by, and scores like a lower learning rate would.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class ExponentialMovingAverage:
    """The average of the parameters that learn, beside the parameters themselves."""

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float) -> None:
        self.parameters = list(parameters)
        self.decay = decay
        self.averages = [parameter.detach().clone() for parameter in self.parameters]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after optimizer step `step` (the first is 1)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.averages, list[Tensor](self.parameters), 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside, the model's weights are the averages."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def restore(self, weights: Sequence[Tensor]) -> None:
        """The model holds the averages, as a checkpoint does: take them, and give it `weights` to go on with."""
        if [w.shape for w in weights] != [p.shape for p in self.parameters]:
            raise ValueError("the weights beside the average have other shapes")
        with torch.no_grad():
            for average, parameter, weight in zip(self.averages, self.parameters, weights, strict=True):
                average.copy_(parameter)
                parameter.copy_(weight)

    @torch.no_grad()
    def _swap(self) -> None:
        for average, parameter in zip(self.averages, self.parameters, strict=True):
            kept = average.clone()
            average.copy_(parameter)
            parameter.copy_(kept)
