"""An exponential moving average (EMA) of the weights, which is validated, stored and used for captioning.

    w̄ ← d·w̄ + (1 − d)·w   after every step,   d = min(decay, (1 + step) / (10 + step))

(Polyak & Juditsky 1992; with the ramp of d the average soon forgets the random initial weights.) An average over about
1,000 steps has less noise than the weights of single steps, and scores as after a lower learning rate.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class ExponentialMovingAverage:
    """The moving average of trainable parameters, in addition to the parameters."""

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float) -> None:
        self.parameters = list(parameters)
        self.decay = decay
        self.averages = [parameter.detach().clone() for parameter in self.parameters]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Update the averages with the weights after optimizer step `step` (the first is 1)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.averages, list[Tensor](self.parameters), 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """A context in which the model's weights are the averages."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def restore(self, weights: Sequence[Tensor]) -> None:
        """Take the averages from the model, as it was loaded from a checkpoint, and set its weights to `weights`.

        Raises ValueError if their shapes differ.
        """
        if [w.shape for w in weights] != [p.shape for p in self.parameters]:
            raise ValueError("the weights and their moving average have other shapes")
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
