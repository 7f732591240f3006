"""The run of a language model: its preparation, and its checkpoints."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from captioner.checkpoint.checkpoint import (
    TRAINER_FILE,
    LanguageCheckpointSettings,
    load_trainer_state,
    load_vocabulary,
    load_weights,
    save_checkpoint,
)
from captioner.checkpoint.index import find_checkpoint, read_index
from captioner.config import LanguageModelConfig
from captioner.data.text_corpus import TextSplits, load_text, windows_per_epoch
from captioner.distributed.device import choose_device
from captioner.errors import CheckpointError
from captioner.nn.cells import Hidden
from captioner.nn.decoders.language_model import LanguageModel
from captioner.training.logs import LogSizes, RunLog, checked_log_sizes
from captioner.training.optimizer import build_optimizer_of_one_rate
from captioner.training.progress import (
    Progress,
    check_not_past_end,
    planned_steps,
    restore_trainer_state,
    trainer_state,
)
from captioner.training.run_identity import DATA, NOT_COMPARED, check_same_run, differences, sequence_digest


@dataclass
class LanguageRun:
    """The state of a training. Made by `prepare_language_run`; weights, progress and `hidden` change."""

    config: LanguageModelConfig
    folder: Path
    device: torch.device
    parts: TextSplits
    steps_per_epoch: int
    model: LanguageModel
    optimizer: torch.optim.Optimizer
    hidden: Hidden  # the state of every stream at the start of the next window
    progress: Progress = field(default_factory=Progress)
    resumed: bool = False
    log_sizes: LogSizes | None = None  # of the log files at the checkpoint from which the run is resumed
    advice: tuple[str, ...] = ()  # on changes since that checkpoint

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What a resumed run must find again; see `run_identity`."""
        text = sequence_digest(part.numpy().tobytes() for part in (self.parts.train, self.parts.val))
        return {
            DATA: {"the text": {"content": text}},
            "seed": self.config.seed,
            "window": self.config.trainer.window,
        }

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run, unless it stops early."""
        trainer = self.config.trainer
        return planned_steps(trainer.max_epochs, trainer.max_steps, self.steps_per_epoch)

    @property
    def is_over(self) -> bool:
        """Whether all steps are done, or the run has stopped early."""
        return self.progress.is_over(self.total_steps)

    @property
    def unit(self) -> str:
        """The name of a token: character or word."""
        return self.config.data.level.removesuffix("s")


def prepare_language_run(config: LanguageModelConfig, folder: Path, *, resume: bool = False) -> LanguageRun:
    """A run that is ready to train; resume: continue from the latest checkpoint of the run in `folder`."""
    torch.manual_seed(config.seed)
    device = choose_device(config.device)
    parts = load_text(config.data)
    steps_per_epoch = windows_per_epoch(len(parts.train), config.trainer.streams, config.trainer.window)
    model = LanguageModel(config.model, len(parts.vocabulary)).to(device)
    run = LanguageRun(
        config=config,
        folder=folder,
        device=device,
        parts=parts,
        steps_per_epoch=steps_per_epoch,
        model=model,
        optimizer=build_optimizer_of_one_rate(model, config.optim),
        hidden=model.initial(config.trainer.streams),
        resumed=resume,
    )
    if resume:
        restore_language_run(run)
    return run


def save_language_run(run: LanguageRun, log: RunLog, *, is_best: bool) -> None:
    """Write a checkpoint from which the run can be resumed exactly, also within an epoch."""
    state = trainer_state(run.progress, run.optimizer, run.device) | {
        "hidden": list(run.hidden),
        "log_sizes": log.sizes(),
        "identity": run.identity,
    }
    save_checkpoint(
        run.folder,
        run.progress.step,
        run.model,
        run.parts.vocabulary,
        LanguageCheckpointSettings(run.config.model, run.config.data),
        state,
        is_best=is_best,
        keep_last=run.config.trainer.keep_last,
    )


def restore_language_run(run: LanguageRun) -> None:
    """Restore weights, optimizer, random state, progress and the streams' states from the latest checkpoint.

    A run that was killed before its first checkpoint starts again, and removes what it had logged. Raises
    CheckpointError if the checkpoint does not fit the run.
    """
    run.log_sizes = {}
    if read_index(run.folder) is None:
        return
    folder = find_checkpoint(run.folder, "latest")
    if load_vocabulary(folder) != run.parts.vocabulary:
        raise CheckpointError(
            f"{run.folder} cannot be resumed: its vocabulary is not the one of the text. The text, or the settings "
            "that tokenize it, have changed since it was started."
        )
    load_weights(run.model, folder)
    state = load_trainer_state(folder)
    hidden = state.get("hidden")
    shapes = [tensor.shape for tensor in hidden] if isinstance(hidden, list) else None
    if shapes != [tensor.shape for tensor in run.hidden]:
        raise CheckpointError(
            f"{folder / TRAINER_FILE} does not fit this run: it has the state of another number of streams. Resume "
            "with the trainer.streams of the run."
        )
    run.progress = restore_trainer_state(state, run.optimizer, run.device, folder / TRAINER_FILE)
    run.progress.recheck_early_stopping(run.config.trainer.patience)
    try:
        stored = state.get("identity")
        found = differences(stored or {}, run.identity)
        run.advice = tuple(check_same_run(found, run.config.resume_despite, run.folder, run.progress.step))
        if stored is None:
            run.advice = (NOT_COMPARED,)
        check_not_past_end(run.progress.step, run.total_steps, run.folder)
        run.log_sizes = checked_log_sizes(state.get("log_sizes"))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder / TRAINER_FILE} does not fit this run ({error}).") from error
    run.hidden = tuple(tensor.to(run.device) for tensor in state["hidden"])
