"""One optimizer step: the micro-batches of a batch give the same step as the whole batch."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from captioner.config import AttentionConfig, TrainConfig
from captioner.data.batches import epoch_batches
from captioner.errors import TrainingError
from captioner.training.run import Run
from captioner.training.setup import prepare
from captioner.training.step import train_step, training_batches
from tests.tiny import tiny_config, with_trainer, write_tiny_data


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    """Batches of six of sixteen images, the last one smaller; no dropout, whose masks depend on micro-batches."""
    config = with_trainer(tiny_config(write_tiny_data(tmp_path / "data")), batch_size=6)
    cache = replace(config.cache, directory=str(tmp_path / "cache"))
    return replace(config, model=replace(config.model, dropout=0.0), cache=cache)


def epoch(config: TrainConfig, folder: Path) -> tuple[list[dict[str, float]], list[Tensor], Run]:
    """The losses of the steps of an epoch, and the weights after it."""
    run = prepare(config, folder)
    run.model.train()
    losses = [train_step(run, step) for step in training_batches(run)]
    return losses, [parameter.detach().clone() for parameter in run.model.decoder.parameters()], run


@pytest.mark.parametrize("accumulate", [2, 3, 6, 100])
def test_micro_batches_make_the_same_step(config: TrainConfig, tmp_path: Path, accumulate: int) -> None:
    whole, weights, _ = epoch(config, tmp_path / "whole")
    micro_batches, other_weights, _ = epoch(
        with_trainer(config, gradient_accumulation_steps=accumulate), tmp_path / "micro-batches"
    )
    assert len(whole) == 3
    for expected, found in zip(whole, micro_batches, strict=True):
        assert found == pytest.approx(expected, rel=1e-5)
    for expected_weight, weight in zip(weights, other_weights, strict=True):
        torch.testing.assert_close(weight, expected_weight, rtol=1e-3, atol=1e-4)


def test_the_baseline_moves_by_the_mean_of_the_whole_step(config: TrainConfig, tmp_path: Path) -> None:
    """Not by that of each micro-batch: with `hard_expected_share=1` micro-batches give the same step."""
    hard = AttentionConfig(**{**vars(config.model), "attention": "hard", "gate": "none", "hard_expected_share": 1.0})
    for name, accumulate in (("whole", 1), ("micro-batches", 3)):
        losses, _, run = epoch(
            with_trainer(replace(config, model=hard), gradient_accumulation_steps=accumulate), tmp_path / name
        )
        expected = math.log(len(run.vocabulary))
        for own in losses:
            expected = 0.9 * expected + 0.1 * own["words"]
        assert float(run.model.decoder.hard.baseline) == pytest.approx(expected, rel=1e-6)


def test_one_micro_batch_at_a_time(config: TrainConfig, tmp_path: Path) -> None:
    run = prepare(with_trainer(config, gradient_accumulation_steps=3), tmp_path / "run")
    sizes = [[len(captions.images) for _, _, captions in step.micro_batches] for step in training_batches(run)]
    assert sizes == [[4, 4, 4], [4, 4, 4], [4, 4]]  # two captions per image


def test_totals_are_those_of_the_whole_batch(config: TrainConfig, tmp_path: Path) -> None:
    run = prepare(with_trainer(config, gradient_accumulation_steps=3), tmp_path / "run")
    for step in training_batches(run):
        packed = [captions for _, _, captions in step.micro_batches]
        assert step.totals.words == sum(len(captions.targets) for captions in packed)
        assert step.totals.captions == sum(len(captions.images) for captions in packed)


def test_an_infinite_gradient_is_an_error_and_keeps_the_weights(config: TrainConfig, tmp_path: Path) -> None:
    """The loss is finite, its gradient is not: as after an overflow in the backward pass."""
    run = prepare(config, tmp_path / "run")
    before = [parameter.detach().clone() for parameter in run.model.decoder.parameters()]
    run.model.decoder.embedding.weight.register_hook(lambda gradient: gradient * float("inf"))  # type: ignore[union-attr]
    step = next(training_batches(run))
    with pytest.raises(TrainingError, match=r"gradient's norm became (inf|nan) at step 1 .*batch of images"):
        train_step(run, step)
    assert all(map(torch.equal, before, run.model.decoder.parameters()))


def test_with_a_scaler_an_infinite_gradient_skips_the_step(config: TrainConfig, tmp_path: Path) -> None:
    """As in float16, whose first scales are too large: weights stay, and the scale is halved down to 1."""
    run = prepare(with_trainer(config, batch_size=4), tmp_path / "run")
    run.scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    before = [parameter.detach().clone() for parameter in run.model.decoder.parameters()]
    steps = training_batches(run)
    embedding: nn.Parameter = run.model.decoder.embedding.weight  # type: ignore[union-attr]
    overflow = embedding.register_hook(lambda gradient: gradient * float("inf"))
    for scale in (2.0, 1.0):
        assert not math.isfinite(train_step(run, next(steps))["gradient_norm"])
        assert run.scaler.get_scale() == scale
        assert all(map(torch.equal, before, run.model.decoder.parameters()))
    overflow.remove()
    train_step(run, next(steps))
    assert not any(map(torch.equal, before, run.model.decoder.parameters()))
    embedding.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(TrainingError, match="gradient's norm became"):
        train_step(run, next(steps))


def test_the_scale_does_not_change_the_step(config: TrainConfig, tmp_path: Path) -> None:
    found = []
    for scale in (1.0, 1024.0):
        run = prepare(config, tmp_path / "run")
        run.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        losses = train_step(run, next(training_batches(run)))
        found.append((losses, [parameter.detach().clone() for parameter in run.model.decoder.parameters()]))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    for plain, scaled in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(plain, scaled)


def test_a_batch_of_unreadable_images_is_skipped(config: TrainConfig, tmp_path: Path) -> None:
    """Without the cache, an image is found unreadable in its step; the step counts for schedule and resume."""
    skipping = replace(
        config, cache=replace(config.cache, enabled=False), data=replace(config.data, on_bad_image="skip")
    )
    run = prepare(with_trainer(skipping, batch_size=1), tmp_path / "run")
    steps = training_batches(run)
    run.train_set.images[epoch_batches(run.indices, 1, 0, 0)[0][0]].path.write_bytes(b"no image")
    before = [parameter.detach().clone() for parameter in run.model.decoder.parameters()]
    assert train_step(run, next(steps)) == {}
    assert all(map(torch.equal, before, run.model.decoder.parameters()))
    assert (run.progress.step, run.progress.batch) == (1, 1)
    assert train_step(run, next(steps))["loss"] > 0
