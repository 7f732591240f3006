"""The progress of a run, and its place in a checkpoint; used for every task."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from captioner.errors import CheckpointError

ADAM = {"step": False, "exp_avg": True, "exp_avg_sq": True}
SGD = {"momentum_buffer": True}
"""An optimizer's state per parameter: name → whether the tensor has the parameter's shape, or is a scalar."""


def planned_steps(max_epochs: int, max_steps: int | None, steps_per_epoch: int) -> int:
    """Optimizer steps of a whole run, unless it stops early."""
    steps = max_epochs * steps_per_epoch
    return steps if max_steps is None else min(steps, max_steps)


def check_not_past_end(step: int, total_steps: int, folder: Path) -> None:
    """CheckpointError if a resumed run has done more steps than it now plans: its settings would not be what it did."""
    if step > total_steps:
        raise CheckpointError(
            f"{folder} has done {step:,} steps, and with these settings the run ends after {total_steps:,}. Leave "
            "trainer.max_epochs and trainer.max_steps as they were, or raise them."
        )


@dataclass
class Progress:
    """The progress of a run: what a resumed run needs besides weights, optimizer state and random state."""

    step: int = 0  # optimizer steps done
    epoch: int = 0  # epochs done
    batch: int = 0  # batches of the current epoch done
    best_score: float = float("-inf")
    best_step: int = 0
    validations_without_gain: int = 0
    stopped_early: bool = False
    last_validation_step: int = 0  # the step of the last validation
    words: int = 0  # trained on, counted in every epoch
    seconds: float = 0.0  # of training time for them
    sums: dict[str, float] = field(default_factory=dict)  # of the losses since the last log line
    steps_summed: int = 0  # the number of steps in `sums`

    @property
    def words_per_second(self) -> float:
        """The training speed of the whole run, also over interruptions."""
        return self.words / self.seconds if self.seconds else 0.0

    def is_over(self, total_steps: int) -> bool:
        """Whether all steps are done, or the run has stopped early."""
        return self.step >= total_steps or self.stopped_early

    def add(self, values: dict[str, float]) -> None:
        """Add one step's losses to the sums from which the next log line computes means."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.steps_summed += 1

    def compute_and_reset(self) -> dict[str, float]:
        """The means over the steps added since the last call, by name; their sums start at 0 again."""
        means = {name: total / self.steps_summed for name, total in self.sums.items()}
        self.sums, self.steps_summed = {}, 0
        return means

    def end_epoch(self, steps_per_epoch: int) -> None:
        """Count the epoch as done if all of its steps are; `trainer.max_steps` may end a run before."""
        if self.batch >= steps_per_epoch:
            self.epoch, self.batch = self.epoch + 1, 0

    def reopen_epoch(self, steps_per_epoch: int) -> None:
        """Undo `end_epoch`: a run that is resumed from here starts with the validation of the epoch."""
        if self.batch == 0:
            self.epoch, self.batch = self.epoch - 1, steps_per_epoch

    def recheck_early_stopping(self, patience: int | None) -> None:
        """After a resume with another patience: keep `stopped_early` only if this patience has run out as well."""
        self.stopped_early = self.stopped_early and patience is not None and self.validations_without_gain >= patience

    def update_best(self, score: float, patience: int | None, *, is_over: bool) -> bool:
        """Count a validation's score, where higher is better; returns whether it is the best so far.

        Sets `stopped_early` after `patience` validations without a better score; None never does.
        """
        is_best = score > self.best_score
        self.last_validation_step = self.step
        if is_best:
            self.best_score, self.best_step, self.validations_without_gain = score, self.step, 0
        else:
            self.validations_without_gain += 1
            self.stopped_early = patience is not None and self.validations_without_gain >= patience and not is_over
        return is_best


def random_state(device: torch.device) -> dict[str, Tensor]:
    """The state of torch's random number generators in this process."""
    state = {"random_state": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda_random_state"] = torch.cuda.get_rng_state(device)
    return state


def restore_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Restore the state that `random_state` returned."""
    torch.set_rng_state(state["random_state"])
    if device.type == "cuda" and "cuda_random_state" in state:
        torch.cuda.set_rng_state(state["cuda_random_state"], device)


def trainer_state(progress: Progress, optimizer: torch.optim.Optimizer, device: torch.device) -> dict[str, Any]:
    """What a checkpoint stores besides the weights for an exact resume: plain values and tensors."""
    return {"progress": dict(vars(progress)), "optimizer": optimizer.state_dict(), **random_state(device)}


def restore_trainer_state(
    state: dict[str, Any], optimizer: torch.optim.Optimizer, device: torch.device, file: Path
) -> Progress:
    """Restore the state that `trainer_state` returned; returns the progress.

    Learning rates, weight decay and betas keep the values of `optimizer`: they are settings, which may change on
    resume. Raises CheckpointError with the name of `file` if the state does not fit.
    """
    settings = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    try:
        try:
            optimizer.load_state_dict(state["optimizer"])
        finally:  # also where the state does not fit, and torch has taken over its settings already
            for group, current in zip(optimizer.param_groups, settings, strict=True):
                group.update(current)
        check_optimizer_state(optimizer)
        progress = progress_from_plain(state["progress"])
        restore_random_state(state, device)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{file} does not fit this run ({error}): it belongs to other settings or was altered."
        ) from error
    return progress


def progress_from_plain(values: dict[str, Any]) -> Progress:
    """The progress whose `vars` were stored; raises KeyError, TypeError or ValueError for anything else."""
    progress = Progress(**({"last_validation_step": values["step"]} | values))  # older checkpoints lack it
    for name, default in vars(Progress()).items():
        value = getattr(progress, name)
        if type(value) is not type(default) or (isinstance(value, int) and not 0 <= value < 2**63):
            raise ValueError(f"its {name} is {value!r:.40}")
    if not all(type(total) is float for total in progress.sums.values()):
        raise ValueError("its sums are not numbers")
    return progress


def check_optimizer_state(optimizer: torch.optim.Optimizer) -> None:
    """Raise ValueError if the optimizer's state of a parameter has unexpected names or shapes; torch does not check it.

    A parameter that has not been updated yet, such as that of an encoder that is still frozen, has no state.
    """
    shapes = SGD if isinstance(optimizer, torch.optim.SGD) else ADAM
    for parameter in (parameter for group in optimizer.param_groups for parameter in group["params"]):
        state = optimizer.state[parameter]
        if state and state.keys() != shapes.keys():
            raise ValueError(f"the optimizer's state has {sorted(map(str, state))}, not {sorted(shapes)}")
        for name, value in state.items():
            if not isinstance(value, Tensor) or value.shape != (parameter.shape if shapes[name] else ()):
                raise ValueError(f"the optimizer's {name} does not fit its parameter")
