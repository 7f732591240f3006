"""One optimizer step: the losses of a batch, in one portion or several, their gradient, and the update."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from heapq import nlargest
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from captioner.data.batches import choose_captions, epoch_batches, mix_seeds
from captioner.distributed.all_reduce import summed_gradients
from captioner.distributed.ranks import all_reduce, rank_info, share
from captioner.errors import TrainingError
from captioner.nn.packing import PackedCaptions, pack_captions
from captioner.nn.types import ImageFeatures
from captioner.training.losses import BatchTotals, captioning_losses
from captioner.training.optimizer import clip_gradient, schedule_factor, set_learning_rate
from captioner.training.phases import SELF_CRITICAL
from captioner.training.precision import autocast, iterate_with_autocast
from captioner.training.run import Run
from captioner.training.self_critical import self_critical_losses


class MicroBatch(NamedTuple):
    """Some images of a batch, by their number in the training set, and their captions."""

    indices: list[int]
    features: ImageFeatures
    captions: PackedCaptions


@dataclass(frozen=True)
class TrainingBatch:
    """A batch of images, divided into `trainer.gradient_accumulation_steps` micro-batches.

    `micro_batches` can be iterated once; one of them is in memory at a time.
    """

    number: int  # within the epoch
    indices: list[int]  # of its images in the training set
    totals: BatchTotals
    micro_batches: Iterator[MicroBatch]


def training_batches(run: Run) -> Iterator[TrainingBatch]:
    """The batches of the current epoch that are still to be trained, up to the last step of the run."""
    trainer, progress = run.config.trainer, run.progress
    steps_left = 0 if run.is_over else run.total_steps - progress.step
    batches = epoch_batches(run.indices, trainer.batch_size, run.config.seed, progress.epoch)
    batches = batches[progress.batch : progress.batch + steps_left]

    def captions_of(index: int) -> Sequence[Sequence[int]]:
        return choose_captions(run.captions[index], trainer.captions_per_image, run.config.seed, progress.epoch, index)

    yield from _steps(run, batches, captions_of, micro_batches=run.gradient_accumulation_steps, first=progress.batch)


def largest_micro_batch(run: Run, micro_batches: int) -> TrainingBatch:
    """The first portion of the largest step there can be, the longest captions: to find out what fits into memory."""
    trainer = run.config.trainer

    def longest(index: int) -> list[list[int]]:
        return sorted(run.captions[index], key=len, reverse=True)[: trainer.captions_per_image]

    size = -(-trainer.batch_size // micro_batches)
    indices = nlargest(size, run.indices, key=lambda index: sum(map(len, longest(index))))
    return next(_steps(run, [indices], longest, micro_batches=1, first=0))


def _steps(
    run: Run,
    batches: Sequence[Sequence[int]],
    captions_of: Callable[[int], Sequence[Sequence[int]]],
    *,
    micro_batches: int,
    first: int,
) -> Iterator[TrainingBatch]:
    """Batches of images as steps of so many portions; `first`: the number of the first of them.

    Images that turn out to be unreadable only while a step is under way still count in that step's totals.
    """
    trainer = run.config.trainer
    size = -(-trainer.batch_size // (rank_info().world_size * micro_batches))

    def divided(batch: Sequence[int]) -> list[list[int]]:
        own = share(batch)  # this process's part, where there are several
        return [own[start : start + size] for start in range(0, len(own), size)]

    features = iterate_with_autocast(
        run.train_features.batches((part for batch in batches for part in divided(batch)), run.progress.epoch),
        trainer.precision,
        run.device,
    )
    for number, batch in enumerate(batches, first):
        indices = [index for index in batch if index not in run.train_features.bad]
        packed = (
            MicroBatch(some, encoded, pack_captions(list(map(captions_of, some))).to(run.device))
            for some, encoded in islice(features, len(divided(batch)))
            if some
        )
        yield TrainingBatch(number, indices, BatchTotals.of(list(map(captions_of, indices))), packed)


def micro_batch_losses(run: Run, micro_batch: MicroBatch, totals: BatchTotals) -> dict[str, Tensor]:
    """The losses of one portion of a step, in the run's precision."""
    trainer = run.config.trainer
    with autocast(trainer.precision, run.device):
        if run.reward is not None and run.phase.objective == SELF_CRITICAL:
            return self_critical_losses(
                run.model,
                micro_batch.features,
                micro_batch.indices,
                run.reward,
                samples=run.config.reward.samples,
                max_length=run.config.decode.max_length,
                seed=mix_seeds(run.config.seed, run.progress.epoch),
                images=totals.images,
            )
        return captioning_losses(
            run.model,
            micro_batch.features,
            micro_batch.captions,
            label_smoothing=trainer.label_smoothing,
            totals=totals,
        )


def train_step(run: Run, step: TrainingBatch) -> dict[str, float]:
    """Update the weights; returns the losses, the gradient's norm before clipping, and the learning rate.

    Returns nothing, and updates nothing, where not one image of the batch could be read.
    Raises TrainingError, with the weights as they were, for a loss or a gradient that is no number.
    """
    optim, progress = run.config.optim, run.progress
    learning_rate = set_learning_rate(run.optimizer, learning_rate_factor(run), progress.step)
    run.optimizer.zero_grad(set_to_none=True)
    sums: dict[str, Tensor] = {}
    with summed_gradients(run.model.parameters(), overlap=run.gradient_accumulation_steps == 1):
        for micro_batch in step.micro_batches:
            losses = micro_batch_losses(run, micro_batch, step.totals)
            run.scaler.scale(losses["loss"]).backward()  # type: ignore[no-untyped-call]
            for name, value in losses.items():
                sums[name] = sums.get(name, torch.zeros_like(value)) + value.detach()
    figures = all_reduce({name: float(value) for name, value in sums.items()})
    progress.step += 1
    progress.batch = step.number + 1
    if not figures:
        return {}
    run.scaler.unscale_(run.optimizer)
    norm = clip_gradient(run.optimizer, optim.clip_norm)
    figures["gradient_norm"] = float(norm)
    check_finite_losses(run, step, figures)
    run.scaler.step(run.optimizer)
    run.scaler.update()
    if run.ema is not None:
        run.ema.update(progress.step)
    run.model.decoder.after_optimizer_step(figures)
    return figures | {"learning_rate": learning_rate}


def learning_rate_factor(run: Run) -> float:
    """The factor of the base learning rates at the next step: the schedule of the phase, times the phase's factor."""
    first, steps = run.phase.schedule_steps(run.steps_per_epoch, run.total_steps)
    step = max(0, run.progress.step - first)
    return run.phase.learning_rate_factor * schedule_factor(run.config.optim, step, steps, run.steps_per_epoch)


def check_finite_losses(run: Run, step: TrainingBatch, figures: dict[str, float]) -> None:
    """TrainingError where the loss or the gradient is infinite or no number: what, in which batch, what to do."""
    lost = {"loss": figures["loss"]}
    # With a larger scale an infinite gradient is no mishap: the step is passed over and the scale halved.
    if run.scaler.get_scale() <= 1:
        lost["gradient's norm"] = figures["gradient_norm"]
    for what, value in lost.items():
        if not math.isfinite(value):
            raise TrainingError(
                f"The {what} became {value} {describe_batch(run, step)}. Lower optim.learning_rate, or clip the "
                "gradient with optim.clip_norm; trainer.detect_anomaly=true says where it arises. Earlier "
                f"checkpoints are in {run.folder}: resume from one with such a setting beside resume=."
            )


def describe_batch(run: Run, step: TrainingBatch) -> str:
    """ "at step 12 (epoch 1), in the batch of images 000, 001, …": for messages."""
    number = run.progress.epoch * run.steps_per_epoch + step.number + 1
    names = ", ".join(str(run.train_set.images[index].image_id) for index in step.indices)
    return f"at step {number} (epoch {run.progress.epoch + 1}), in the batch of images {names}"
