"""--dry-run: sizes, phases, disk and memory against what a real run has; problems are listed; nothing is written."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from captioner.config import CocoConfig, EncoderConfig, RewardConfig, TrainConfig
from captioner.errors import ConfigError, DataError
from captioner.nn.build_model import build_model
from captioner.training.dry_run import report as report_module
from captioner.training.dry_run.inputs import PUBLISHED, read_inputs
from captioner.training.dry_run.plan import cache_rows, epochs_that_run, estimate_cost, row_bytes
from captioner.training.dry_run.report import disk_problems, dry_run, duration, size, weights_problems
from captioner.training.dry_run.timing import Timer, saved_bytes
from captioner.training.phases import plan_phases
from captioner.training.setup import prepare
from tests.tiny import tiny_config, with_trainer, write_tiny_data


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    folder = tmp_path_factory.mktemp("dry_run")
    config = tiny_config(write_tiny_data(folder / "data"))
    config = with_trainer(config, max_epochs=2, patience=None)
    return replace(config, cache=replace(config.cache, directory=str(folder / "cache")))


def test_the_inputs_are_those_of_a_real_run(config: TrainConfig, tmp_path: Path) -> None:
    inputs = read_inputs(config)
    run = prepare(config, tmp_path)
    assert inputs.train_images == len(run.indices)
    assert inputs.val_images == len(run.val_set.images)
    assert inputs.vocabulary == len(run.vocabulary)
    assert list(inputs.captions) == list(run.captions)
    assert inputs.problems == []


def test_the_cache_takes_what_is_announced(config: TrainConfig, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    config = replace(config, cache=replace(config.cache, directory=str(cache)))
    inputs = read_inputs(config)
    model = build_model(config.model, config.encoder, inputs.vocabulary)
    (kind,) = rows = cache_rows(config, inputs, plan_phases(config))
    announced = rows[kind] * row_bytes(model, kind)
    prepare(config, tmp_path / "run")
    stored = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
    assert announced <= stored <= announced + 20_000  # headers and listings


def test_nothing_is_written_and_nothing_is_started(config: TrainConfig, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    report, problems = dry_run(replace(config, cache=replace(config.cache, directory=str(cache))), tmp_path / "run")
    assert problems == []
    assert not cache.exists()
    assert not (tmp_path / "run").exists()
    for word in ("Data ", "Model ", "Cache ", "Phase 1 ", "Time ", "Disk ", "Memory ", "Expected "):
        assert f"\n{word}" in f"\n{report}"


def test_phases_and_steps(config: TrainConfig) -> None:
    rewarded = replace(with_trainer(config, max_epochs=3), reward=RewardConfig(after=2, samples=2))
    phases = plan_phases(rewarded)
    assert epochs_that_run(rewarded, phases, 16) == [2, 1]
    steps = 16 // rewarded.trainer.batch_size
    assert epochs_that_run(with_trainer(rewarded, max_steps=steps), phases, 16) == [1, 0]
    inputs = read_inputs(rewarded)
    cost = estimate_cost(rewarded, inputs, build_model(rewarded.model, rewarded.encoder, inputs.vocabulary))
    assert [phase.epochs for phase in cost.phases] == [2, 1]
    assert all(phase.epoch_seconds > 0 for phase in cost.phases)
    assert cost.seconds == pytest.approx(cost.cache_seconds + sum(phase.seconds for phase in cost.phases))


def test_a_search_with_guards_is_timed(config: TrainConfig, tmp_path: Path) -> None:
    guarded = replace(config, decode=replace(config.decode, no_unseen_phrase=True))
    report, problems = dry_run(guarded, tmp_path / "run")
    assert problems == []
    assert "Time " in report


def test_features_made_elsewhere_have_no_encoder_to_time(config: TrainConfig, tmp_path: Path) -> None:
    data = replace(config.data, features=str(tmp_path))
    without_encoder = replace(config, data=data, encoder=EncoderConfig("none"))
    with pytest.raises(ConfigError, match=r"data\.features has none"):
        dry_run(without_encoder, tmp_path / "run")


def test_saved_bytes_of_a_known_graph(config: TrainConfig) -> None:
    inputs = read_inputs(config)
    model = build_model(config.model, config.encoder, inputs.vocabulary)
    x = torch.ones(1000, requires_grad=True)
    with saved_bytes(model) as saved:
        (x.exp().sin()).sum()  # exp keeps its output, sin its input: one storage of 4000 bytes
    assert saved == [4000]
    assert Timer(config, inputs, model).step(plan_phases(config)[0], cached=True).activation_bytes > 0


def test_without_the_data_published_sizes_are_used(config: TrainConfig, tmp_path: Path) -> None:
    coco = replace(config, data=CocoConfig(root=str(tmp_path), karpathy="dataset_coco.json"))
    report, problems = dry_run(coco, tmp_path / "run")
    assert f"{PUBLISHED['coco'].train:,} images for training" in report
    assert "its published size, because it is not there" in report
    assert any("dataset_coco.json does not exist" in problem for problem in problems)
    with pytest.raises(DataError):  # the user's own data has no published size
        read_inputs(replace(config, data=replace(config.data, root=str(tmp_path / "nowhere"))))


def test_weights_that_cannot_be_had_are_a_problem(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))

    def offline(*arguments: object, **options: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(report_module.urllib.request, "urlopen", offline)
    (problem,) = weights_problems(EncoderConfig("resnet101"))
    assert "could not be downloaded (no network)" in problem
    assert "encoder.weights=/path/to/resnet101" in problem
    assert weights_problems(EncoderConfig("resnet101", weights=None)) == []
    assert weights_problems(EncoderConfig("efficientnet_lite0")) == []
    (missing,) = weights_problems(EncoderConfig("resnet101", weights=str(tmp_path / "w.pth")))
    assert "there is no such file" in missing


def test_a_small_disk_is_a_problem(config: TrainConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    inputs = read_inputs(config)
    cost = estimate_cost(config, inputs, build_model(config.model, config.encoder, inputs.vocabulary))
    assert disk_problems(config, tmp_path / "run", cost) == []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
    assert "cache.enabled=false" in "".join(disk_problems(config, tmp_path / "run", cost))


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (0.2, "under 1 s"), (40, "40 s"), (600, "10 min"), (7200, "2.0 h")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_sizes() -> None:
    assert (size(12e6), size(3.52e9)) == ("12 MB", "3.5 GB")
