"""Saves a run to a checkpoint, and restores it: `save` and `restore` are inverses."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from captioner.checkpoint.checkpoint import (
    TRAINER_FILE,
    load_trainer_state,
    load_vocabulary,
    load_weights,
    save_checkpoint,
)
from captioner.checkpoint.index import Index, Score, find_checkpoint, read_index
from captioner.data.batches import (
    mix_seeds,
)
from captioner.distributed.checks import check_ranks_agree
from captioner.distributed.ranks import (
    all_gather,
    all_gather_union,
    broadcast_from_rank0,
    is_main_process,
    rank_info,
)
from captioner.errors import CheckpointError
from captioner.training.anchor import Anchor
from captioner.training.logs import RunLog, checked_log_sizes, read_records
from captioner.training.phases import changed_past, phases_to_plain
from captioner.training.progress import (
    check_not_past_end,
    random_state,
    restore_random_state,
    restore_trainer_state,
    trainer_state,
)
from captioner.training.run import Run
from captioner.training.run_identity import DATA, NOT_COMPARED, PHASES, check_same_run, differences


def save(run: Run, log: RunLog, *, is_best: bool, score: float | None = None) -> None:
    """Write a checkpoint from which the run can be resumed exactly; with `trainer.ema`, its weights are the average.

    score: what the validation of just now gave. Rank 0 writes the checkpoint, with the random states of all ranks.
    """
    check_ranks_agree(run.model, run.captions, run.indices, run.progress.step, run.folder)
    all_gather_union(run.train_features.bad)
    random_states = all_gather(random_state(run.device))
    broadcast_from_rank0(lambda: _write(run, log, random_states[1:], is_best, score))


def _write(
    run: Run, log: RunLog, other_random_states: list[dict[str, Tensor]], is_best: bool, score: float | None
) -> None:
    state = trainer_state(run.progress, run.optimizer, run.device)
    state["other_random_states"] = other_random_states
    state["log_sizes"] = log.sizes()
    state["bad_images"] = [run.train_features.bad, run.val_features.bad]
    state["skipped_images"] = {split: sorted(indices) for split, indices in run.skipped_images.items()}
    state["scaler"] = run.scaler.state_dict()
    state["phases"] = phases_to_plain(run.phases)
    state["identity"] = run.identity
    state["gradient_accumulation_steps"] = run.gradient_accumulation_steps
    if run.anchor is not None:
        state["anchor"] = run.anchor.decoder.state_dict()
    if run.ema is not None:
        state["raw_weights"] = [parameter.detach().clone() for parameter in run.ema.parameters]
    with using_ema_weights(run):
        save_checkpoint(
            run.folder,
            run.progress.step,
            run.model,
            run.vocabulary,
            run.checkpoint_settings,
            state,
            is_best=is_best,
            keep_last=run.config.trainer.keep_last,
            keep_best=run.config.trainer.keep_best,
            score=None if score is None else Score(run.config.trainer.monitor, score, run.progress.best_score),
            tokenizer_model=run.tokenizer.model,
        )


def using_ema_weights(run: Run) -> AbstractContextManager[None]:
    """A context in which the model has the weights that are scored and stored: with `trainer.ema`, their average."""
    return nullcontext() if run.ema is None else run.ema.in_place()


def restore(run: Run) -> None:
    """Restore weights, optimizer, random state and progress from the run's latest checkpoint.

    A run that was killed before its first checkpoint starts again, and removes what it had logged. Raises
    CheckpointError if the checkpoint does not fit the run.
    """
    run.log_sizes = {}
    index = broadcast_from_rank0(lambda: read_index(run.folder))
    if index is None:
        return
    broadcast_from_rank0(lambda: check_vocabulary(run))
    folder = load_weights_on_all(run, "latest")
    state = broadcast_from_rank0(lambda: load_trainer_state(folder))
    run.progress = restore_trainer_state(state, run.optimizer, run.device, folder / TRAINER_FILE)
    try:
        run.advice += tuple(broadcast_from_rank0(lambda: accepted_changes(run, state)))
        measure_best_as_now(run, index, state)
        check_not_past_end(run.progress.step, run.total_steps, run.folder)
        restore_random_state_of_rank(run, state.get("other_random_states", []))  # older checkpoints have none
        run.log_sizes = checked_log_sizes(state.get("log_sizes"))
        run.skipped_images |= {str(split): set(indices) for split, indices in state.get("skipped_images", {}).items()}
        if state.get("scaler"):  # empty if the run used another precision
            run.scaler.load_state_dict(state["scaler"])
        if run.config.trainer.gradient_accumulation_steps is None:  # found once: dropout masks depend on micro-batches
            run.gradient_accumulation_steps = int(state.get("gradient_accumulation_steps", 0))
        run.phases_changed = state.get("phases", phases_to_plain(run.phases)) != phases_to_plain(run.phases)
        if moved_phase(run, state) is not None:  # and accepted: nothing of another objective is kept
            run.optimizer.state.clear()
            run.progress.validations_without_gain = 0
            run.progress.sums, run.progress.steps_summed = {}, 0
        for source, bad in zip((run.train_features, run.val_features), state.get("bad_images", ()), strict=False):
            source.bad.update(bad)
        if "anchor" in state and run.config.reward.kl_weight:
            run.anchor = Anchor(run.model.decoder)
            run.anchor.decoder.load_state_dict(state["anchor"])
        if run.ema is not None:
            run.ema.restore(state.get("raw_weights", run.ema.parameters))
        elif "raw_weights" in state:
            raise ValueError("it has a moving average of the weights: resume with the trainer.ema of the run")
    except (AttributeError, LookupError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{folder / TRAINER_FILE} does not fit this run ({error}).") from error


def measure_best_as_now(run: Run, index: Index, state: dict[str, Any]) -> None:
    """Where validations are not scored as before, find the best checkpoint's score of the kind that they give now.

    With another `trainer.monitor` it is in the log, or not known, as on other validation data: then the next validation
    is the best so far. Validations without gain are counted anew.
    """
    progress, monitor, split = run.progress, run.config.trainer.monitor, run.val_set.split
    stored, now = ((identity or {}).get(DATA, {}) for identity in (state.get("identity"), run.identity))
    other_data = broadcast_from_rank0(
        lambda: bool(split in stored and differences({DATA: {split: stored[split]}}, {DATA: {split: now[split]}}))
    )
    if not other_data and index.monitor in (None, monitor):
        progress.recheck_early_stopping(run.config.trainer.patience)
        return
    scores = [] if other_data else broadcast_from_rank0(lambda: _logged_scores(run, monitor))
    progress.best_score = scores[-1] if scores else float("-inf")
    progress.validations_without_gain, progress.stopped_early = 0, False
    was = "scored on other data" if other_data else f"chosen by {index.monitor}"
    known = f"its {monitor} of {scores[-1]:.4f} is to be exceeded" if scores else "the next validation takes its place"
    run.advice += (f"the best checkpoint so far, of step {progress.best_step}, was {was}: now {known}.",)


def _logged_scores(run: Run, monitor: str) -> list[float]:
    """What validations at the step of the best checkpoint logged of this score; empty where they did not compute it."""
    records = [record for record in read_records(run.folder) if record["kind"] == "validation"]
    values = [record.get(monitor) for record in records if record["step"] == run.progress.best_step]
    return [value for value in values if isinstance(value, float)]


def accepted_changes(run: Run, state: dict[str, Any]) -> list[str]:
    """Notes on what has changed since the checkpoint and is accepted; CheckpointError for what is not.

    `state` is not trusted: another error says that it does not fit.
    """
    stored = state.get("identity")
    found = differences(stored or {}, run.identity)
    if (moved := moved_phase(run, state)) is not None:
        found[PHASES] = moved
    notes = check_same_run(found, run.config.resume_despite, run.folder, run.progress.step)
    return [NOT_COMPARED, *notes] if stored is None else notes


def moved_phase(run: Run, state: dict[str, Any]) -> str | None:
    """How an epoch that has begun was trained in another phase than is planned now; None if none was."""
    epochs = run.progress.epoch + (run.progress.batch > 0)
    return changed_past(state["phases"], run.phases, epochs) if "phases" in state else None


def check_vocabulary(run: Run) -> None:
    """Raise CheckpointError if the vocabulary of the latest checkpoint differs from that of the training captions."""
    if load_vocabulary(find_checkpoint(run.folder, "latest")) != run.vocabulary:
        raise CheckpointError(
            f"{run.folder} cannot be resumed: its vocabulary is not the one of the training captions. The "
            "captions, the tokenizer or the settings of vocabulary have changed since it was started."
        )


def load_weights_on_all(run: Run, which: str) -> Path:
    """Load the weights of the "latest" or "best" checkpoint on all ranks; only rank 0 reads the files.

    Returns the checkpoint's folder.
    """

    def load() -> tuple[Path, dict[str, Tensor]]:
        folder = find_checkpoint(run.folder, which)
        load_weights(run.model, folder)
        return folder, {name: tensor.cpu() for name, tensor in run.model.state_dict().items()}

    folder, weights = broadcast_from_rank0(load)
    if not is_main_process():
        run.model.load_state_dict(weights)
    return folder


def restore_random_state_of_rank(run: Run, others: list[dict[str, Tensor]]) -> None:
    """Restore the random state of every rank above 0, or seed a new one if the number of ranks has changed."""
    info = rank_info()
    if info.rank > 0 and len(others) == info.world_size - 1:
        restore_random_state(others[info.rank - 1], run.device)
    elif info.rank > 0:
        torch.manual_seed(mix_seeds(run.config.seed, run.progress.step, info.rank))
