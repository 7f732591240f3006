"""A NaN is reported with the module or operation in which it arose."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from captioner.errors import TrainingError
from captioner.nn.layers.attention import AdditiveAttention
from captioner.training.loop import train
from captioner.training.nan_detection import nan_source_reported
from captioner.training.setup import prepare
from tests.tiny import tiny_config, with_trainer, write_tiny_data

PLACE = "at step 3 (epoch 1), in the batch of images 7"


class Sick(nn.Module):
    """0 · √0: a finite value whose gradient is 0 · ∞."""

    def forward(self, inputs: Tensor) -> Tensor:
        return (inputs * 0).sqrt() * 0


def test_forward_the_module_is_named() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    with torch.no_grad():
        model[1].weight.fill_(float("inf"))  # type: ignore[union-attr]
    with (
        pytest.raises(TrainingError, match=r"forward pass, 1 \(Linear\).*at step 3"),
        nan_source_reported(model, PLACE),
    ):
        model(torch.ones(1, 2))
    model(torch.ones(1, 2))  # no hook is left


def test_backward_the_operation_is_named() -> None:
    model = nn.Sequential(nn.Linear(2, 2), Sick())
    with pytest.raises(TrainingError, match=r"backward pass, Sqrt.*at step 3"), nan_source_reported(model, PLACE):
        model(torch.ones(1, 2)).sum().backward()


def test_backward_the_line_in_captioner_is_named() -> None:
    attention = AdditiveAttention(3, 2, 2)

    def spoil_the_gradient() -> None:
        energies = attention.energies(torch.zeros(1, 4, 2), torch.zeros(1, 2))
        energies.register_hook(lambda gradient: gradient * float("nan"))
        energies.sum().backward()

    where = r"backward pass, .*called in captioner/nn/layers/attention\.py, line \d+"
    with pytest.raises(TrainingError, match=where), nan_source_reported(attention, PLACE):
        spoil_the_gradient()


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="else"), nan_source_reported(nn.Linear(1, 1), PLACE):
        raise RuntimeError("something else")


def test_other_warnings_pass() -> None:
    with pytest.warns(UserWarning, match="look here") as told, nan_source_reported(nn.Linear(1, 1), PLACE):
        warnings.warn("look here", stacklevel=1)
    assert len(told) == 1  # torch's warning that anomaly mode is slow is suppressed


def test_in_training_the_batch_is_named_as_well(tmp_path: Path) -> None:
    config = with_trainer(tiny_config(write_tiny_data(tmp_path / "data")), detect_anomaly=True, max_steps=2)
    (tmp_path / "run").mkdir()
    run = prepare(config, tmp_path / "run")
    with torch.no_grad():
        run.model.decoder.attention.keys.weight.fill_(float("nan"))  # type: ignore[union-attr]
    with pytest.raises(TrainingError, match=r"attention\.keys \(Linear\).*step 1 \(epoch 1\).*images 0\d\d, 0\d\d"):
        train(run)
