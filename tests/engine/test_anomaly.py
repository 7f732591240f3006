"""A NaN is named with the place where it arose."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from captioner.engine.anomaly import anomalies_named
from captioner.errors import TrainingError


class Sick(nn.Module):
    """0 · √0: a fine value whose gradient is 0 · ∞."""

    def forward(self, inputs: Tensor) -> Tensor:
        return (inputs * 0).sqrt() * 0


def test_forward_the_module_is_named() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    with torch.no_grad():
        model[1].weight.fill_(float("inf"))  # type: ignore[union-attr]
    with pytest.raises(TrainingError, match=r"forward pass, 1 \(Linear\)"), anomalies_named(model):
        model(torch.ones(1, 2))
    model(torch.ones(1, 2))  # nobody watches any more


def test_backward_the_operation_is_named() -> None:
    model = nn.Sequential(nn.Linear(2, 2), Sick())
    with pytest.raises(TrainingError, match=r"backward pass, Sqrt"), anomalies_named(model):
        model(torch.ones(1, 2)).sum().backward()


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="else"), anomalies_named(nn.Linear(1, 1)):
        raise RuntimeError("something else")
