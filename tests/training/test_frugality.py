"""Memory of long runs: no unused autograd graphs, and no growth from epoch to epoch."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from captioner.config import CacheConfig, TrainConfig
from captioner.training import loop as training
from captioner.training.logs import RunLog
from captioner.training.loop import train, validate
from captioner.training.run import Run
from captioner.training.setup import prepare
from captioner.training.signals import StopRequest
from captioner.training.step import train_step, training_batches
from tests.shapes import forget_calls
from tests.tiny import tiny_config, with_trainer, write_tiny_data


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    """A trainable encoder, so that features have gradients unless they are disabled; and many other options."""
    config = with_trainer(tiny_config(write_tiny_data(tmp_path / "data")), ema=0.9, precision="bfloat16")
    return replace(config, encoder=replace(config.encoder, fine_tune_from="features.12"))


def kept_for_backward(work: Callable[[], object]) -> int:
    """The number of tensors that `work` saves for a backward pass."""
    kept = 0

    def note(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += 1
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        work()
    return kept


@pytest.mark.parametrize("fine_tuned", [True, False])
def test_validation_builds_no_graph(config: TrainConfig, tmp_path: Path, fine_tuned: bool) -> None:
    run = prepare(config if fine_tuned else replace(config, encoder=tiny_config(config.data).encoder), tmp_path)
    modes: list[bool] = []
    for module in run.model.modules():
        module.register_forward_hook(lambda module, inputs, output: modes.append(torch.is_inference_mode_enabled()))
    with RunLog(tmp_path) as log, StopRequest() as stop:
        assert kept_for_backward(lambda: validate(run, log, stop)) == 0
    assert modes
    assert all(modes)
    run.model.train()
    assert (
        kept_for_backward(lambda: train_step(run, next(training_batches(run)))) > 50
    )  # with a graph, the count is not 0


class Held(NamedTuple):
    """The memory of the process after an epoch."""

    objects: int
    tensors: int
    megabytes: float


def held_after_each_epoch(config: TrainConfig, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Held]:
    found: list[Held] = []
    whole = training.validate

    def validate_and_count(run: Run, *more: Any) -> None:
        whole(run, *more)
        forget_calls(all_tests=True)  # the kinds of calls that were checked are not the run's
        gc.collect()
        everything = gc.get_objects()
        tensors = sum(issubclass(type(one), Tensor) for one in everything)
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        found.append(Held(len(everything), tensors, pages * 4096 / 2**20))

    monkeypatch.setattr(training, "validate", validate_and_count)
    folder.mkdir()
    train(prepare(config, folder))
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="asks Linux how much memory a process has")
@pytest.mark.parametrize("fine_tuned", [True, False])
def test_memory_stays_flat_over_epochs(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fine_tuned: bool
) -> None:
    encoder = config.encoder if fine_tuned else tiny_config(config.data).encoder
    long = with_trainer(replace(config, encoder=encoder), max_epochs=12, patience=None, gradient_accumulation_steps=2)
    found = held_after_each_epoch(long, tmp_path / "run", monkeypatch)
    settled, last = found[3], found[-1]
    assert last.tensors == settled.tensors
    assert last.objects - settled.objects < 8 * 10  # each validation adds a row to log.csv
    assert last.megabytes - settled.megabytes < 6


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="asks Linux how much memory a process has")
def test_a_leak_would_be_detected(config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leaked: list[Tensor] = []
    step = training.train_step

    def leaking(run: Run, *more: Any) -> dict[str, float]:
        leaked.append(torch.ones(9 * 2**20))  # 36 MB: more than the C library reuses of freed memory
        return step(run, *more)

    monkeypatch.setattr(training, "train_step", leaking)
    uncached = replace(with_trainer(config, max_epochs=6, patience=None), cache=CacheConfig(enabled=False))
    found = held_after_each_epoch(uncached, tmp_path / "run", monkeypatch)
    assert found[-1].tensors - found[3].tensors == 2 * 4
    assert found[-1].megabytes - found[3].megabytes > 200
