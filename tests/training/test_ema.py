"""The moving average of the weights against its recurrence."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from captioner.training.ema import ExponentialMovingAverage


def test_the_average_follows_its_recurrence() -> None:
    parameter = nn.Parameter(torch.tensor([0.0, 4.0], dtype=torch.float64))
    average = ExponentialMovingAverage([parameter], decay=0.6)
    expected = parameter.detach().clone()
    for step in range(1, 30):
        with torch.no_grad():
            parameter += torch.tensor([1.0, -0.5])
        average.update(step)
        decay = min(0.6, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * parameter.detach()
        torch.testing.assert_close(average.averages[0], expected, rtol=1e-12, atol=1e-12)


def test_weights_are_restored_afterwards_also_after_an_error() -> None:
    parameter = nn.Parameter(torch.tensor([1.0]))
    average = ExponentialMovingAverage([parameter], decay=0.9)
    with torch.no_grad():
        parameter.fill_(3.0)
    with average.in_place():
        assert parameter.tolist() == [1.0]
    with pytest.raises(KeyError), average.in_place():
        raise KeyError
    assert parameter.tolist() == [3.0]
    assert average.averages[0].tolist() == [1.0]


def test_the_restored_average_is_the_saved_one() -> None:
    parameter = nn.Parameter(torch.tensor([1.0]))  # a checkpoint stores the average
    average = ExponentialMovingAverage([parameter], decay=0.9)
    average.restore([torch.tensor([5.0])])
    assert (parameter.tolist(), average.averages[0].tolist()) == ([5.0], [1.0])
    with pytest.raises(ValueError, match="shapes"):
        average.restore([torch.zeros(2)])
