"""Where a run stands: what is best, when patience ends, and that a checkpoint gives all of it back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from captioner.engine.progress import Progress, restore_trainer_state, trainer_state
from captioner.errors import CheckpointError

CPU = torch.device("cpu")


def test_the_first_score_is_the_best_and_equal_ones_are_no_gain() -> None:
    progress = Progress(step=7)
    assert progress.judge(-3.0, None, is_over=False)
    assert (progress.best_score, progress.best_step) == (-3.0, 7)
    progress.step = 9
    assert not progress.judge(-3.0, None, is_over=False)
    assert (progress.best_step, progress.validations_without_gain) == (7, 1)


def test_patience_counts_validations_in_a_row() -> None:
    progress = Progress()
    for score, stopped in ((1.0, False), (0.5, False), (2.0, False), (1.5, False), (2.0, True)):
        progress.judge(score, 2, is_over=False)
        assert progress.stopped_early is stopped


def test_a_run_at_its_end_was_not_stopped_early() -> None:
    progress = Progress(best_score=1.0)
    progress.judge(0.0, 1, is_over=True)
    assert not progress.stopped_early


def test_means_are_those_of_the_steps_since_they_were_taken() -> None:
    progress = Progress()
    for loss in (3.0, 5.0, 4.0):
        progress.note({"loss": loss})
    assert progress.take_means() == {"loss": 4.0}
    progress.note({"loss": 7.0})
    assert Progress(**vars(progress)).take_means() == {"loss": 7.0}


def stepped() -> tuple[torch.nn.Linear, torch.optim.Optimizer]:
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    return model, optimizer


def test_what_is_restored_is_what_was_kept() -> None:
    _, optimizer = stepped()
    state = trainer_state(Progress(step=3, stopped_early=True), optimizer, CPU)
    drawn = torch.rand(5)
    other = torch.optim.Adam(torch.nn.Linear(3, 2).parameters())
    progress = restore_trainer_state(state, other, CPU, Path("trainer.pt"))
    assert torch.equal(torch.rand(5), drawn)
    assert progress == Progress(step=3, stopped_early=True)
    kept, given = optimizer.state_dict()["state"], other.state_dict()["state"]
    assert all(torch.equal(kept[i]["exp_avg"], given[i]["exp_avg"]) for i in kept)


def test_another_run_s_state_is_refused_with_its_file() -> None:
    state = trainer_state(Progress(), stepped()[1], CPU)
    with pytest.raises(CheckpointError, match=r"run/trainer\.pt does not fit this run"):
        restore_trainer_state({**state, "progress": {"stp": 1}}, stepped()[1], CPU, Path("run/trainer.pt"))
