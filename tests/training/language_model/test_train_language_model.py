"""Training a language model: it learns, is reproducible, and resumes exactly."""

from __future__ import annotations

import json
import re
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from captioner.checkpoint.checkpoint import load_checkpoint
from captioner.checkpoint.index import find_checkpoint
from captioner.checkpoint.language_model_checkpoint import load_language_model
from captioner.checkpoint.migrations import FORMAT_VERSION
from captioner.config import (
    LanguageModelConfig,
    LanguageNetworkConfig,
    LanguageTrainerConfig,
    OptimConfig,
    SamplingConfig,
    TextConfig,
)
from captioner.errors import CheckpointError, TrainingError
from captioner.training.language_model import train_language_model as language_training
from captioner.training.language_model.held_out_loss import mean_bits
from captioner.training.language_model.language_model_run import LanguageRun, prepare_language_run
from captioner.training.language_model.train_language_model import stages, train_language_model
from captioner.training.logs import read_records
from captioner.training.signals import Interrupted
from tests.checkpoint.forging import forge, forge_config

SMALL = LanguageModelConfig(
    data=TextConfig(size=3000, val_fraction=0.1, test_fraction=0.1),
    model=LanguageNetworkConfig(embedding_dim=8, hidden_dim=16, layers=2),
    optim=OptimConfig(learning_rate=0.02, warmup_steps=2),
    trainer=LanguageTrainerConfig(
        max_epochs=2, streams=8, window=24, validate_every=5, log_every=2, sample_stages=3, baseline_order=1
    ),
    sampling=SamplingConfig(length=60),
    device="cpu",
)
STEPS = 2 * 13  # 2400 training characters: 297 per stream, 13 windows per epoch


def run(config: LanguageModelConfig, folder: Path, **more: bool) -> Path:
    folder.mkdir(exist_ok=True)
    train_language_model(prepare_language_run(config, folder, **more))
    return folder


def trainer(**changes: Any) -> LanguageModelConfig:
    return replace(SMALL, trainer=replace(SMALL.trainer, **changes))


def assert_same_run(first: Path, second: Path) -> None:
    ours, theirs = (load_file(find_checkpoint(folder, "latest") / "model.safetensors") for folder in (first, second))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert curve(first) == curve(second)
    assert (first / "samples.md").read_bytes() == (second / "samples.md").read_bytes()


def curve(folder: Path) -> list[dict[str, Any]]:
    """The log records without measured times."""
    clock = ("seconds", "tokens_per_second")
    return [{k: v for k, v in record.items() if k not in clock} for record in read_records(folder)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The uninterrupted run of `SMALL`."""
    return run(SMALL, tmp_path_factory.mktemp("whole") / "run")


def test_it_learns_a_repeated_text(tmp_path: Path) -> None:
    """Its loss falls to nearly 0 bits; with one character of context it would stay above 1."""
    text = tmp_path / "text.txt"
    text.write_text("the cat sat on the mat (and (then) it left). " * 60)
    model = replace(SMALL.model, layers=1, hidden_dim=32)
    config = trainer(max_epochs=30, patience=None, validate_every=1000)
    folder = run(replace(config, model=model, data=replace(SMALL.data, text=str(text))), tmp_path / "run")
    figures = json.loads((folder / "metrics.json").read_text())
    assert figures["bits_per_character"]["test"] < 0.15
    assert figures["counting"][0]["test"] > 3
    assert figures["counting"][1]["test"] > 1


def test_the_files_of_a_finished_run(whole: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(whole, tmp_path / "run")
    figures = json.loads((folder / "metrics.json").read_text())
    assert figures["task"] == "language_model"
    assert figures["tokens"] == {"train": 2400, "val": 300, "test": 300}
    assert figures["run"]["steps"] == STEPS
    assert [row["tokens_before"] for row in figures["counting"]] == [0, 1]
    records = read_records(folder)
    kinds = [record["kind"] for record in records]
    assert kinds.count("train") == STEPS // 2
    assert [r["step"] for r in records if r["kind"] == "validation"] == [5, 10, 15, 20, 25, STEPS]
    assert [r["step"] for r in records if r["kind"] == "sample"] == [3, 9, STEPS]
    assert (folder / "samples.md").read_text().count("## After") == 3
    loaded = load_language_model(folder)
    best = min(r["bits_per_character"] for r in records if r["kind"] == "validation")
    val = prepare_language_run(SMALL, folder).parts.val
    assert mean_bits(loaded.model, val) == pytest.approx(best, abs=1e-9)
    assert figures["bits_per_character"]["val"] == pytest.approx(best, abs=1e-9)


def test_runs_are_reproducible_and_seeds_differ(whole: Path, tmp_path: Path) -> None:
    assert_same_run(whole, run(SMALL, tmp_path / "second"))
    assert curve(run(replace(SMALL, seed=1), tmp_path / "third")) != curve(whole)


@pytest.mark.parametrize("stop_after", [1, 5, 13, 17])
def test_a_resumed_run_equals_an_uninterrupted_one(whole: Path, tmp_path: Path, stop_after: int) -> None:
    """Stopped within an epoch, at a validation, at the end of an epoch, and within the second."""
    stopped = tmp_path / "stopped"
    with pytest.raises(Interrupted):
        interrupt_after(stop_after, stopped)
    assert not (stopped / "metrics.json").exists()
    run(SMALL, stopped, resume=True)
    assert_same_run(whole, stopped)


def interrupt_after(steps: int, folder: Path) -> None:
    """Train, and send this process SIGINT after `steps` steps, as Ctrl-C does."""
    folder.mkdir()
    before = language_training.train_step

    def step_and_interrupt(run: LanguageRun, *arguments: Any) -> dict[str, float]:
        losses = before(run, *arguments)
        if run.progress.step == steps:
            signal.raise_signal(signal.SIGINT)
        return losses

    language_training.train_step = step_and_interrupt
    try:
        train_language_model(prepare_language_run(SMALL, folder))
    finally:
        language_training.train_step = before


def test_the_state_is_carried_but_the_gradient_is_not(tmp_path: Path) -> None:
    first = prepare_language_run(SMALL, tmp_path)
    start = first.hidden
    language_training.train_step(first, torch.randint(4, 9, (8, 24)), torch.randint(4, 9, (8, 24)))
    assert not any(torch.equal(a, b) for a, b in zip(start, first.hidden, strict=True))
    assert not any(state.requires_grad for state in first.hidden)


def test_early_stopping(tmp_path: Path) -> None:
    config = replace(trainer(patience=2, max_epochs=50), optim=OptimConfig(learning_rate=0.0))
    folder = run(config, tmp_path / "run")
    assert json.loads((folder / "metrics.json").read_text())["run"]["steps"] == 15
    assert "Stopped early" in (folder / "log.txt").read_text()
    assert (folder / "samples.md").read_text().count("## After 15 steps") == 1


def test_an_infinite_loss_ends_the_run(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    lost = prepare_language_run(SMALL, folder)
    torch.nn.init.constant_(lost.model.output.words.bias, float("nan"))
    with pytest.raises(TrainingError, match=r"became nan at step 1 .*Lower optim\.learning_rate"):
        train_language_model(lost)


def test_an_infinite_gradient_is_an_error_and_keeps_the_weights(tmp_path: Path) -> None:
    """The loss is finite, its gradient is not."""
    folder = tmp_path / "run"
    folder.mkdir()
    lost = prepare_language_run(SMALL, folder)
    lost.model.output.words.bias.register_hook(lambda gradient: gradient * float("inf"))
    before = {name: tensor.clone() for name, tensor in lost.model.state_dict().items()}
    with pytest.raises(TrainingError, match=r"The gradient's norm became (inf|nan) at step 1"):
        train_language_model(lost)
    for name, tensor in lost.model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_another_text_or_other_streams_cannot_be_resumed(tmp_path: Path) -> None:
    folder = run(SMALL, tmp_path / "run")
    text = tmp_path / "text.txt"
    text.write_text("abcdef" * 500)
    with pytest.raises(CheckpointError, match="its vocabulary is not the one of the text"):
        prepare_language_run(replace(SMALL, data=replace(SMALL.data, text=str(text))), folder, resume=True)
    with pytest.raises(CheckpointError, match=r"the trainer\.streams of the run"):
        prepare_language_run(trainer(streams=4), folder, resume=True)
    with pytest.raises(CheckpointError, match="with these settings the run ends after 1"):
        prepare_language_run(trainer(max_steps=1), folder, resume=True)


def test_a_checkpoint_of_another_task_is_an_error(tmp_path: Path) -> None:
    folder = run(SMALL, tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"task=language_model.* use it with python -m captioner sample"):
        load_checkpoint(folder)
    checkpoint = find_checkpoint(folder)
    forge_config(checkpoint, lambda config: config.update(task="captioning"))
    with pytest.raises(CheckpointError, match=r"was altered"):  # its settings are not those of captioning
        load_language_model(folder)
    forge(checkpoint, "config.json", json.dumps({"format_version": FORMAT_VERSION, "task": "captioning"}).encode())
    with pytest.raises(CheckpointError, match=r"task=captioning.* use it with python caption\.py"):
        load_language_model(folder)


def test_settings_larger_than_the_weights_file_are_an_error(tmp_path: Path) -> None:
    folder = find_checkpoint(run(SMALL, tmp_path / "run"))
    forge_config(folder, lambda config: config["model"].update(hidden_dim=60_000))
    with pytest.raises(CheckpointError, match="does not fit the model"):
        load_language_model(folder)
    forge_config(folder, lambda config: config["model"].update(hidden_dims=3))
    with pytest.raises(CheckpointError, match="was altered"):
        load_language_model(folder)


def test_weights_that_are_read_are_not_initialized(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An embedding's weights on the meta device: torch would import its compiler to initialize them."""
    folder = run(SMALL, tmp_path / "run")
    monkeypatch.setattr(torch.Tensor, "normal_", lambda *arguments, **named: pytest.fail("weights were initialized"))
    load_language_model(folder)


def test_words_have_a_perplexity(tmp_path: Path) -> None:
    config = replace(trainer(streams=4, window=8), data=replace(SMALL.data, level="words", min_count=2))
    config = replace(config, sampling=replace(config.sampling, prompt="if x", length=3))
    folder = run(config, tmp_path / "run")
    figures = json.loads((folder / "metrics.json").read_text())
    for sample in (record["text"] for record in read_records(folder) if record["kind"] == "sample"):
        assert re.match(r"if x(\n| \S)", sample), "a blank between the words of the prompt and those that follow"
    assert figures["perplexity_per_word"]["val"] == pytest.approx(2 ** figures["bits_per_word"]["val"])
    assert figures["unknown"]["test"] > 0


def test_samples_and_baselines_can_be_disabled(tmp_path: Path) -> None:
    folder = run(trainer(sample_stages=0, baseline_order=0), tmp_path / "run")
    assert not (folder / "samples.md").exists()
    assert "counting" not in json.loads((folder / "metrics.json").read_text())


def test_sample_stages_are_denser_at_the_start() -> None:
    assert stages(2000, 5) == [5, 21, 96, 437, 2000]
    assert stages(1, 5) == [1]
    assert stages(10, 0) == []
