"""One optimizer step: the losses of a batch, summed over its micro-batches, their gradient, and the update."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from heapq import nlargest
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from captioner.config.objective import NONE
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
from captioner.training.scheduled_sampling import with_own_words
from captioner.training.self_critical import self_critical_losses


class MicroBatch(NamedTuple):
    """Some images of a batch: data-set indices, features and captions."""

    indices: list[int]
    features: ImageFeatures
    captions: PackedCaptions


@dataclass(frozen=True)
class TrainingBatch:
    """A batch of images, divided into `trainer.gradient_accumulation_steps` micro-batches.

    `micro_batches` can be iterated once; one of them is in memory at a time.
    """

    number: int  # within the epoch, from 0
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
    """One micro-batch of the images with the longest captions: the largest that `micro_batches` per batch can give."""
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
    """Training batches of `batches`, each divided into `micro_batches`; first: the number of the first batch.

    An image that is found to be unreadable during a step still counts in the totals of that step.
    """
    trainer = run.config.trainer
    size = -(-trainer.batch_size // (rank_info().world_size * micro_batches))

    def divided(batch: Sequence[int]) -> list[list[int]]:
        images = share(batch)  # those of this process
        return [images[start : start + size] for start in range(0, len(images), size)]

    features = iterate_with_autocast(
        run.train_features.batches((part for batch in batches for part in divided(batch)), run.progress.epoch),
        trainer.precision,
        run.device,
    )
    for number, batch in enumerate(batches, first):
        indices = [index for index in batch if index not in run.train_features.bad]
        packed = (
            MicroBatch(readable, encoded, pack_captions(list(map(captions_of, readable))).to(run.device))
            for readable, encoded in islice(features, len(divided(batch)))
            if readable
        )
        yield TrainingBatch(number, indices, BatchTotals.of(list(map(captions_of, indices))), packed)


def micro_batch_losses(run: Run, micro_batch: MicroBatch, totals: BatchTotals) -> dict[str, Tensor]:
    """The losses of a micro-batch by name, for the objective of the current phase; "loss" is to be minimized.

    With `reward.cross_entropy_weight`, self-critical training also has the losses of cross-entropy training.
    """
    config, seed = run.config, mix_seeds(run.config.seed, run.progress.epoch)
    weight = config.reward.cross_entropy_weight
    losses: dict[str, Tensor] = {}
    with autocast(config.trainer.precision, run.device):
        if run.reward is not None and run.phase.objective == SELF_CRITICAL:
            losses = self_critical_losses(
                run.model,
                micro_batch.features,
                micro_batch.indices,
                run.reward,
                config=config.reward,
                max_length=config.decode.max_length,
                seed=seed,
                images=totals.images,
                anchor=run.anchor,
            )
            if not weight:
                return losses
        captions = with_own_words(
            run.model,
            micro_batch.features,
            micro_batch.captions,
            reference_share=config.objective.reference_share(run.progress.step),
            own_words=config.objective.own_words,
            seed=seed,
            image_ids=micro_batch.indices,
        )
        of_references = captioning_losses(
            run.model,
            micro_batch.features,
            captions,
            label_smoothing=config.trainer.label_smoothing,
            totals=totals,
            objective=config.objective,
        )
        if not losses:
            return of_references
        return of_references | losses | {"loss": losses["loss"] + weight * of_references["loss"]}


def train_step(run: Run, batch: TrainingBatch) -> dict[str, float]:
    """Update the weights with one batch; returns its losses, the gradient norm before clipping, and the learning rate.

    Returns {} and updates nothing where no image of the batch could be read. Raises TrainingError, and leaves the
    weights unchanged, for a loss or a gradient that is infinite or NaN.
    """
    optim, objective, progress = run.config.optim, run.config.objective, run.progress
    learning_rate = set_learning_rate(run.optimizer, learning_rate_factor(run), progress.step)
    run.optimizer.zero_grad(set_to_none=True)
    sums: dict[str, Tensor] = {}
    with summed_gradients(run.model.parameters(), overlap=run.gradient_accumulation_steps == 1):
        for micro_batch in batch.micro_batches:
            losses = micro_batch_losses(run, micro_batch, batch.totals)
            run.scaler.scale(losses["loss"]).backward()  # type: ignore[no-untyped-call]
            for name, value in losses.items():
                sums[name] = sums.get(name, torch.zeros_like(value)) + value.detach()
    results = all_reduce({name: float(value) for name, value in sums.items()})
    if "words" in results and objective.scheduled_sampling != NONE:
        results["reference_share"] = objective.reference_share(progress.step)
    progress.step += 1
    progress.batch = batch.number + 1
    if not results:
        return {}
    run.scaler.unscale_(run.optimizer)
    norm = clip_gradient(run.optimizer, optim.clip_norm)
    results["gradient_norm"] = float(norm)
    check_finite_losses(run, batch, results)
    run.scaler.step(run.optimizer)
    run.scaler.update()
    if run.ema is not None:
        run.ema.update(progress.step)
    run.model.decoder.after_optimizer_step(results)
    return results | {"learning_rate": learning_rate}


def learning_rate_factor(run: Run) -> float:
    """The factor of the base learning rates at the next step: the schedule of the phase, times the phase's factor."""
    first, steps = run.phase.schedule_steps(run.steps_per_epoch, run.total_steps)
    step = max(0, run.progress.step - first)
    return run.phase.learning_rate_factor * schedule_factor(run.config.optim, step, steps, run.steps_per_epoch)


def check_finite_losses(run: Run, batch: TrainingBatch, results: dict[str, float]) -> None:
    """Raise TrainingError if the loss or the gradient is infinite or NaN; the message names the batch and remedies."""
    checked = {"loss": results["loss"]}
    # With a larger scale an infinite gradient is expected: the scaler skips the step and halves the scale.
    if run.scaler.get_scale() <= 1:
        checked["gradient's norm"] = results["gradient_norm"]
    for what, value in checked.items():
        if not math.isfinite(value):
            raise TrainingError(
                f"The {what} became {value} {describe_batch(run, batch)}. Lower optim.learning_rate, or clip the "
                "gradient with optim.clip_norm; trainer.detect_anomaly=true reports where it arises. Earlier "
                f"checkpoints are in {run.folder}: resume from one with such a setting after resume=."
            )


def describe_batch(run: Run, batch: TrainingBatch) -> str:
    """ "at step 12 (epoch 1), in the batch of images 000, 001, …": for messages."""
    number = run.progress.epoch * run.steps_per_epoch + batch.number + 1
    names = ", ".join(str(run.train_set.images[index].image_id) for index in batch.indices)
    return f"at step {number} (epoch {run.progress.epoch + 1}), in the batch of images {names}"
