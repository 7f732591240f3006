"""Training phases: consecutive epochs with the same trainable parameters, the same kind of images and one objective.

Three settings start something after a number of epochs: `encoder.fine_tune_after` (the encoder becomes trainable),
`augment.after` (images are augmented) and `reward.after` (self-critical training). `plan_phases` turns them into one
ordered list, which is logged when a run starts and stored in its checkpoints. Nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import pairwise
from typing import Any

from captioner.config import TrainConfig

CROSS_ENTROPY, SELF_CRITICAL = "cross-entropy", "self-critical"
PLAN = {"is_plan": True}  # metadata of what may change for epochs that are done: when they end, and learning rates
_OBJECTIVES = {CROSS_ENTROPY: "cross-entropy (XE)", SELF_CRITICAL: "self-critical training (SCST)"}


@dataclass(frozen=True)
class Phase:
    """One phase of a training. Epochs count from 0: `first_epoch` is the number of epochs before the phase.

    end_epoch: the first epoch after the phase; fine_tune_from: the first trainable block of the encoder, None where
    only the decoder is trained; augmented: whether images are augmented, or shown whole; objective: "cross-entropy" or
    "self-critical"; schedule_first_epoch, schedule_end_epoch: the epochs of the learning-rate schedule, which phases of
    one objective share; learning_rate_factor: multiplies the learning rates of `optim`.
    """

    first_epoch: int = field(metadata=PLAN)
    end_epoch: int = field(metadata=PLAN)
    fine_tune_from: str | None
    augmented: bool
    objective: str
    schedule_first_epoch: int = field(metadata=PLAN)
    schedule_end_epoch: int = field(metadata=PLAN)
    learning_rate_factor: float = field(metadata=PLAN)

    def describe(self) -> str:
        """The phase for a reader: "epochs 4-9: cross-entropy (XE), encoder trainable from features.6"."""
        last = self.end_epoch  # counted from 1
        epochs = f"epoch {last}" if last == self.first_epoch + 1 else f"epochs {self.first_epoch + 1}-{last}"
        encoder = "encoder frozen" if self.fine_tune_from is None else f"encoder trainable from {self.fine_tune_from}"
        images = ", augmented images" if self.augmented else ""
        return f"{epochs}: {_OBJECTIVES[self.objective]}, {encoder}{images}"

    def schedule_steps(self, steps_per_epoch: int, total_steps: int) -> tuple[int, int]:
        """The first step of the learning-rate schedule, and its number of steps, for a run of `total_steps`."""
        first = self.schedule_first_epoch * steps_per_epoch
        return first, min(total_steps, self.schedule_end_epoch * steps_per_epoch) - first


def plan_phases(config: TrainConfig) -> list[Phase]:
    """The phases of a run with these settings, in order, from epoch 0 to `trainer.max_epochs`.

    `TrainConfig` has checked that each of them starts before the last epoch ends.
    """
    encoder, augment, reward, epochs = config.encoder, config.augment, config.reward, config.trainer.max_epochs
    fine_tuning_starts = encoder.fine_tune_after if encoder.fine_tune_from is not None else epochs
    augmentation_starts = augment.after if augment.active else epochs
    self_critical_starts = epochs if reward.after is None else reward.after
    rate = config.optim.learning_rate
    phases = []
    for first, end in pairwise(sorted({0, fine_tuning_starts, augmentation_starts, self_critical_starts, epochs})):
        is_self_critical = first >= self_critical_starts
        phases.append(
            Phase(
                first_epoch=first,
                end_epoch=end,
                fine_tune_from=encoder.fine_tune_from if first >= fine_tuning_starts else None,
                augmented=first >= augmentation_starts,
                objective=SELF_CRITICAL if is_self_critical else CROSS_ENTROPY,
                schedule_first_epoch=self_critical_starts if is_self_critical else 0,
                schedule_end_epoch=epochs if is_self_critical else self_critical_starts,
                learning_rate_factor=(reward.learning_rate / rate if rate else 0.0) if is_self_critical else 1.0,
            )
        )
    return phases


def phase_of_epoch(phases: Sequence[Phase], epoch: int) -> Phase:
    """The phase of an epoch, counted from 0; the last phase for every epoch after its first."""
    return next(phase for phase in reversed(phases) if epoch >= phase.first_epoch)


def describe_phases(phases: Sequence[Phase], steps_per_epoch: int, total_steps: int) -> list[str]:
    """One line for each phase; a phase that `trainer.max_steps` leaves no step for is announced as not reached."""
    lines = []
    for number, phase in enumerate(phases, 1):
        line = f"Phase {number} ({phase.describe().replace(': ', '): ', 1)}"
        if phase.first_epoch * steps_per_epoch >= total_steps:
            line += f"; not reached, because trainer.max_steps={total_steps} ends the run before"
        lines.append(line)
    return lines


def phases_to_plain(phases: Sequence[Phase]) -> list[dict[str, Any]]:
    """The phases as plain values, as a checkpoint stores them."""
    return [asdict(phase) for phase in phases]


def changed_past(stored: Sequence[Mapping[str, Any]], phases: Sequence[Phase], epochs: int) -> str | None:
    """How one of the first `epochs`, which have begun, was trained in another way than `phases` plans it; or None.

    stored: what `phases_to_plain` stored. Plans for later epochs and learning rates may differ. Raises KeyError or
    ValueError for values that it has not stored.
    """
    names = [part.name for part in fields(Phase) if not part.metadata.get("is_plan")]
    starts = {0, *(phase["first_epoch"] for phase in stored), *(phase.first_epoch for phase in phases)}
    for epoch in sorted(epoch for epoch in starts if 0 <= epoch < epochs):  # between them nothing changes
        now = phase_of_epoch(phases, epoch)
        before = next((phase for phase in reversed(stored) if epoch >= phase["first_epoch"]), None)
        if before is None:
            raise ValueError(f"it has no phase of epoch {epoch + 1}")
        changed = [name for name in names if name in before and before[name] != getattr(now, name)]
        if changed:
            trained = ", ".join(f"{name}={before[name]}" for name in changed)
            planned = ", ".join(f"{name}={getattr(now, name)}" for name in changed)
            begun = "the first epoch has" if epochs == 1 else f"{epochs} epochs have"
            return f"epoch {epoch + 1} was trained with {trained}, not {planned}, and {begun} begun"
    return None
