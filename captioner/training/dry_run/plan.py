"""What a training will cost: the seconds of each phase, disk and memory, from times measured on this machine."""

from __future__ import annotations

from dataclasses import dataclass

from captioner.config import TrainConfig
from captioner.nn.model import CaptioningModel
from captioner.training.dry_run.inputs import TrainingInputs
from captioner.training.dry_run.timing import Timer
from captioner.training.phases import Phase, plan_phases
from captioner.training.progress import planned_steps

FLOAT32, FLOAT16 = 4, 2  # bytes
ADAM_STATES = 2  # moving averages per trainable parameter


@dataclass(frozen=True)
class PhaseCost:
    """A phase, its epochs that will run, and the seconds of an epoch and of the validations after it."""

    phase: Phase
    epochs: float
    epoch_seconds: float
    validation_seconds: float
    activation_bytes: float  # of one micro-batch

    @property
    def seconds(self) -> float:
        """Of the whole phase."""
        return self.epochs * (self.epoch_seconds + self.validation_seconds)


@dataclass(frozen=True)
class TrainingCost:
    """What a training needs. Seconds are those of this machine; bytes are per process where memory is meant."""

    phases: list[PhaseCost]
    cache_seconds: float  # to fill the cache, once
    cache_bytes: int
    checkpoint_bytes: int  # of the checkpoints that are kept
    weight_bytes: int  # weights, gradients and the optimizer's states
    file_seconds: float | None  # to decode one image file in one process; None: not measured

    @property
    def seconds(self) -> float:
        """Of everything."""
        return self.cache_seconds + sum(phase.seconds for phase in self.phases)

    @property
    def memory_bytes(self) -> float:
        """Weights and the largest step."""
        return self.weight_bytes + max((phase.activation_bytes for phase in self.phases), default=0.0)


def estimate_cost(config: TrainConfig, inputs: TrainingInputs, model: CaptioningModel) -> TrainingCost:
    """Measures each part of a training on this machine for a moment, and multiplies."""
    timer = Timer(config, inputs, model)
    phases = plan_phases(config)
    file_seconds = timer.decoding_files()
    devices = config.trainer.devices or 1
    encode, caption = timer.encoding(), timer.captioning()
    per_file = (file_seconds or 0.0) / max(1, config.data.num_workers)
    pixels = max(encode, per_file) if config.data.num_workers else encode + per_file
    costs = []
    for phase, epochs in zip(phases, epochs_that_run(config, phases, inputs.train_images), strict=True):
        cached = config.cache.enabled and not phase.augmented
        step = timer.step(phase, cached=cached)
        image_seconds = step.seconds
        if not cached:
            compute = step.seconds + (encode if phase.fine_tune_from is None else 0.0)
            image_seconds = max(compute, per_file) if config.data.num_workers else compute + per_file
        validation = caption if cached and phase.fine_tune_from is None else caption + pixels
        micro_batch = config.trainer.batch_size / (devices * (config.trainer.gradient_accumulation_steps or 1))
        costs.append(
            PhaseCost(
                phase,
                epochs,
                inputs.train_images * image_seconds / devices,
                inputs.val_images * validation / devices / config.trainer.validate_every,
                step.activation_bytes * micro_batch,
            )
        )
    rows = cache_rows(config, inputs, phases)
    return TrainingCost(
        costs,
        cache_seconds=sum(rows.values()) * pixels / devices,
        cache_bytes=sum(count * row_bytes(model, kind) for kind, count in rows.items()),
        checkpoint_bytes=(config.trainer.keep_best + config.trainer.keep_last) * checkpoint_bytes(config, model),
        weight_bytes=parameter_count(model) * FLOAT32
        + trainable_count(config, model) * FLOAT32 * (1 + optimizer_states(config)),
        file_seconds=file_seconds,
    )


def epochs_that_run(config: TrainConfig, phases: list[Phase], images: int) -> list[float]:
    """The epochs of each phase, where `trainer.max_steps` may end the run before."""
    steps_per_epoch = -(-images // config.trainer.batch_size)
    total = planned_steps(config.trainer.max_epochs, config.trainer.max_steps, steps_per_epoch) / steps_per_epoch
    return [max(0.0, min(phase.end_epoch, total) - phase.first_epoch) for phase in phases]


def cache_rows(config: TrainConfig, inputs: TrainingInputs, phases: list[Phase]) -> dict[str, int]:
    """Rows that the cache will store: "features" of the frozen encoder, "part" of its frozen blocks."""
    if not config.cache.enabled:
        return {}
    train = inputs.train_images * (2 if config.cache.flips else 1)
    rows = {}
    frozen = [phase for phase in phases if phase.fine_tune_from is None]
    tuned = [phase for phase in phases if phase.fine_tune_from is not None]
    for kind, of_kind in (("features", frozen), ("part", tuned)):
        if of_kind:
            rows[kind] = inputs.val_images + (train if any(not phase.augmented for phase in of_kind) else 0)
    return rows


def row_bytes(model: CaptioningModel, kind: str) -> int:
    """Bytes of one image's float16 row in the cache."""
    if kind == "part":
        model.encoder.unfreeze()
        part = model.encoder.frozen_part()
        if part is None:
            return 0
        return part.grid_size[0] * part.grid_size[1] * part.feature_dim * FLOAT16
    rows, columns = model.encoder.grid_size
    return (rows * columns if model.needs_grid else 1) * model.encoder.feature_dim * FLOAT16


def parameter_count(model: CaptioningModel) -> int:
    """Parameters of encoder and decoder."""
    return sum(parameter.numel() for parameter in model.parameters())


def trainable_count(config: TrainConfig, model: CaptioningModel) -> int:
    """Parameters that any phase trains."""
    model.encoder.unfreeze()
    trained = [*model.decoder.parameters(), *(p for p in model.encoder.parameters() if p.requires_grad)]
    return sum(parameter.numel() for parameter in trained)


def optimizer_states(config: TrainConfig) -> int:
    """Values that the optimizer keeps per trainable parameter, and the average of the weights (`trainer.ema`)."""
    return (1 if config.optim.name == "sgd" else ADAM_STATES) + (config.trainer.ema is not None)


def checkpoint_bytes(config: TrainConfig, model: CaptioningModel) -> int:
    """Bytes of one checkpoint: weights, and the optimizer's states."""
    states = trainable_count(config, model) * optimizer_states(config)
    return FLOAT32 * (parameter_count(model) + states)
