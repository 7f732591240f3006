"""The progress of a run: the best score, early stopping, and the round trip through a checkpoint."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from captioner.errors import CheckpointError
from captioner.training.progress import Progress, restore_trainer_state, trainer_state

CPU = torch.device("cpu")


def test_the_first_score_is_the_best_and_equal_scores_are_not_better() -> None:
    progress = Progress(step=7)
    assert progress.update_best(-3.0, None, is_over=False)
    assert (progress.best_score, progress.best_step) == (-3.0, 7)
    progress.step = 9
    assert not progress.update_best(-3.0, None, is_over=False)
    assert (progress.best_step, progress.validations_without_gain) == (7, 1)


def test_patience_counts_validations_in_a_row() -> None:
    progress = Progress()
    for score, stopped in ((1.0, False), (0.5, False), (2.0, False), (1.5, False), (2.0, True)):
        progress.update_best(score, 2, is_over=False)
        assert progress.stopped_early is stopped


def test_a_run_at_its_end_was_not_stopped_early() -> None:
    progress = Progress(best_score=1.0)
    progress.update_best(0.0, 1, is_over=True)
    assert not progress.stopped_early


def test_means_are_over_the_steps_since_the_last_call() -> None:
    progress = Progress()
    for loss in (3.0, 5.0, 4.0):
        progress.add({"loss": loss})
    assert progress.compute_and_reset() == {"loss": 4.0}
    progress.add({"loss": 7.0})
    assert Progress(**vars(progress)).compute_and_reset() == {"loss": 7.0}


def stepped() -> tuple[torch.nn.Linear, torch.optim.Optimizer]:
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    return model, optimizer


def test_the_restored_state_is_the_stored_one() -> None:
    _, optimizer = stepped()
    state = trainer_state(Progress(step=3, stopped_early=True), optimizer, CPU)
    drawn = torch.rand(5)
    other = torch.optim.Adam(torch.nn.Linear(3, 2).parameters())
    progress = restore_trainer_state(state, other, CPU, Path("trainer.pt"))
    assert torch.equal(torch.rand(5), drawn)
    assert progress == Progress(step=3, stopped_early=True)
    kept, given = optimizer.state_dict()["state"], other.state_dict()["state"]
    assert all(torch.equal(kept[i]["exp_avg"], given[i]["exp_avg"]) for i in kept)


OPTIMIZERS = {
    "adam": torch.optim.Adam,
    "adamw": partial(torch.optim.AdamW, fused=True),
    "sgd": partial(torch.optim.SGD, lr=0.1, momentum=0.9),
    "sgd without momentum": partial(torch.optim.SGD, lr=0.1),
}


def part_way(name: str) -> torch.optim.Optimizer:
    """Two layers, of which the second has not been updated yet."""
    layers = torch.nn.ModuleList(torch.nn.Linear(3, 3) for _ in range(2))
    optimizer: torch.optim.Optimizer = OPTIMIZERS[name](layers.parameters())
    layers[0](torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return optimizer


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_parameters_without_updates_have_no_state(name: str) -> None:
    state = trainer_state(Progress(step=1), part_way(name), CPU)
    other = part_way(name)
    assert restore_trainer_state(state, other, CPU, Path("trainer.pt")).step == 1
    kept, given = state["optimizer"]["state"], other.state_dict()["state"]
    assert {weight for weight, own in given.items() if own} == ({0, 1} if kept else set())
    assert all(torch.equal(value, given[weight][key]) for weight, own in kept.items() for key, value in own.items())


DAMAGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "one thing is missing": lambda own: own.pop("exp_avg"),
    "one thing is more": lambda own: own.update(more=torch.zeros(3, 3)),
    "another optimizer's": lambda own: (own.clear(), own.update(momentum_buffer=torch.zeros(3, 3))),
    "another shape": lambda own: own.update(exp_avg=torch.zeros(3)),
    "a number for a tensor of the weight's shape": lambda own: own.update(exp_avg=torch.tensor(0.0)),
    "the weight's shape for a number": lambda own: own.update(step=torch.zeros(3, 3)),
    "no tensor": lambda own: own.update(exp_avg_sq="zero"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_an_invalid_optimizer_state_is_an_error(damage: Callable[[dict[str, Any]], Any]) -> None:
    state = copy.deepcopy(trainer_state(Progress(), part_way("adam"), CPU))
    damage(state["optimizer"]["state"][0])
    with pytest.raises(CheckpointError, match=r"trainer\.pt does not fit this run"):
        restore_trainer_state(state, part_way("adam"), CPU, Path("trainer.pt"))


def test_the_state_of_another_run_is_an_error_with_its_file() -> None:
    state = trainer_state(Progress(), stepped()[1], CPU)
    with pytest.raises(CheckpointError, match=r"run/trainer\.pt does not fit this run"):
        restore_trainer_state({**state, "progress": {"stp": 1}}, stepped()[1], CPU, Path("run/trainer.pt"))
