"""The phases of a training: planned from the settings alone, described, stored, and free of torch."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner.checkpoint.checkpoint import load_trainer_state
from captioner.checkpoint.index import find_checkpoint
from captioner.config import AugmentConfig, EncoderConfig, OptimConfig, RewardConfig, TrainConfig, TrainerConfig
from captioner.errors import ConfigError
from captioner.training.loop import train
from captioner.training.phases import changed_past, describe_phases, phase_of_epoch, phases_to_plain, plan_phases
from captioner.training.setup import prepare
from tests.tiny import tiny_config, with_trainer, write_tiny_data


def settings(
    epochs: int = 15, fine_tune_after: int | None = 3, augment_after: int | None = 9, reward_after: int | None = 9
) -> TrainConfig:
    """None: no fine-tuning, no augmentation, or no self-critical training."""
    tuned = fine_tune_after is not None
    return TrainConfig(
        encoder=EncoderConfig(fine_tune_from="features.6" if tuned else None, fine_tune_after=fine_tune_after or 0),
        augment=AugmentConfig() if augment_after is None else AugmentConfig(scale=(0.6, 1.0), after=augment_after),
        reward=RewardConfig(after=reward_after, learning_rate=2e-4),
        optim=OptimConfig(learning_rate=1e-3),
        trainer=TrainerConfig(max_epochs=epochs),
    )


def test_the_phases_of_the_recipe() -> None:
    assert describe_phases(plan_phases(settings()), steps_per_epoch=375, total_steps=15 * 375) == [
        "Phase 1 (epochs 1-3): cross-entropy (XE), encoder frozen",
        "Phase 2 (epochs 4-9): cross-entropy (XE), encoder trainable from features.6",
        "Phase 3 (epochs 10-15): self-critical training (SCST), encoder trainable from features.6, augmented images",
    ]


def test_a_run_without_them_has_one_phase() -> None:
    (phase,) = plan_phases(settings(4, None, None, None))
    assert phase.describe() == "epochs 1-4: cross-entropy (XE), encoder frozen"
    assert phase.schedule_steps(steps_per_epoch=10, total_steps=40) == (0, 40)
    (phase,) = plan_phases(settings(1, 0, 0, None))
    assert phase.describe() == "epoch 1: cross-entropy (XE), encoder trainable from features.6, augmented images"


def test_phases_of_one_objective_share_a_schedule() -> None:
    first, second, third = plan_phases(settings())
    assert first.schedule_steps(100, 1500) == second.schedule_steps(100, 1500) == (0, 900)
    assert third.schedule_steps(100, 1500) == (900, 600)
    assert third.schedule_steps(100, 1000) == (900, 100)
    assert (first.learning_rate_factor, second.learning_rate_factor) == (1, 1)
    assert third.learning_rate_factor == pytest.approx(0.2)


STARTS = st.none() | st.integers(0, 7)


@given(st.integers(8, 12), STARTS, STARTS, st.none() | st.integers(1, 7))
def test_the_phases_cover_every_epoch_once(
    epochs: int, fine_tune_after: int | None, augment_after: int | None, reward_after: int | None
) -> None:
    phases = plan_phases(settings(epochs, fine_tune_after, augment_after, reward_after))
    assert (phases[0].first_epoch, phases[-1].end_epoch) == (0, epochs)
    assert all(before.end_epoch == after.first_epoch for before, after in pairwise(phases))
    for epoch in range(epochs):
        phase = phase_of_epoch(phases, epoch)
        assert phase.first_epoch <= epoch < phase.end_epoch
        assert (phase.fine_tune_from is not None) == (fine_tune_after is not None and epoch >= fine_tune_after)
        assert phase.augmented == (augment_after is not None and epoch >= augment_after)
        assert (phase.objective == "self-critical") == (reward_after is not None and epoch >= reward_after)
    assert phase_of_epoch(phases, epochs + 3) == phases[-1]


@pytest.mark.parametrize(
    ("starts", "setting"),
    [
        ({"fine_tune_after": 15}, r"encoder\.fine_tune_after=15"),
        ({"augment_after": 16}, r"augment\.after=16"),
        ({"reward_after": 15}, r"reward\.after=15"),
    ],
)
def test_a_phase_after_the_last_epoch_is_an_error(starts: dict[str, int], setting: str) -> None:
    with pytest.raises(ConfigError, match=rf"{setting} leaves no epoch .*trainer\.max_epochs is 15"):
        settings(**starts)


def test_a_phase_that_max_steps_leaves_out_is_announced() -> None:
    lines = describe_phases(plan_phases(settings()), steps_per_epoch=10, total_steps=90)
    ends = [line.partition("; ")[2] for line in lines]
    assert ends == ["", "", "not reached, because trainer.max_steps=90 ends the run before"]


def test_a_run_logs_its_phases_once_and_stores_them(tmp_path: Path) -> None:
    config = with_trainer(tiny_config(write_tiny_data(tmp_path / "data")), max_epochs=2)
    config = replace(config, reward=RewardConfig(after=1))
    folder = tmp_path / "run"
    folder.mkdir()
    run = prepare(config, folder)
    train(run)
    state = load_trainer_state(find_checkpoint(folder, "latest"))
    assert state["phases"] == phases_to_plain(run.phases)
    first = "Phase 1 (epoch 1): cross-entropy (XE), encoder frozen\n"
    assert (folder / "log.txt").read_text().count(first) == 1
    train(prepare(config, folder, resume=True))
    assert (folder / "log.txt").read_text().count(first) == 1
    train(prepare(with_trainer(config, max_epochs=3), folder, resume=True))
    text = (folder / "log.txt").read_text()
    assert text.count(first) == 2
    assert "Phase 2 (epochs 2-3): self-critical training (SCST), encoder frozen\n" in text


def test_planning_does_not_import_torch() -> None:
    code = (
        "import sys; from captioner.config import TrainConfig; from captioner.training.phases import plan_phases; "
        "plan_phases(TrainConfig()); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_past_is_compared_without_counting_its_epochs() -> None:
    """A forged checkpoint may claim any number of epochs."""
    phases = plan_phases(settings())
    assert changed_past(phases_to_plain(phases), phases, 2**62) is None
    later = plan_phases(settings(reward_after=10))
    assert changed_past(phases_to_plain(phases), later, 9) is None
    message = changed_past(phases_to_plain(phases), later, 10)
    assert message is not None
    assert message.startswith("epoch 10 was trained with objective=self-critical, not objective=cross-entropy")
