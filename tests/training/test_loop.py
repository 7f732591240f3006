"""The training loop: it learns, is reproducible, resumes exactly after Ctrl-C, and enters its phases."""

from __future__ import annotations

import json
import math
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from captioner.checkpoint.checkpoint import load_trainer_state
from captioner.checkpoint.index import find_checkpoint
from captioner.config import AttentionConfig, AugmentConfig, CacheConfig, EncoderConfig, RecurrentConfig, TrainConfig
from captioner.data.batches import epoch_batches
from captioner.data.features.sources import FeatureSource, open_features
from captioner.data.images.augment import Augmentation
from captioner.errors import CheckpointError, ConfigError, ImageError, TrainingError
from captioner.nn.build_model import build_model
from captioner.training import loop as training
from captioner.training import setup as preparation
from captioner.training.logs import read_records
from captioner.training.loop import train
from captioner.training.run import Run
from captioner.training.setup import prepare
from captioner.training.signals import Interrupted
from tests.tiny import COLORS, ENCODER, SIDES, tiny_config, with_trainer, write_tiny_data


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    return tiny_config(write_tiny_data(tmp_path / "data"))


def weights(folder: Path, which: str = "latest") -> dict[str, torch.Tensor]:
    return load_file(find_checkpoint(folder, which) / "model.safetensors")


def assert_same_weights(first: Path, second: Path) -> None:
    ours, theirs = weights(first), weights(second)
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


def curve(folder: Path) -> list[dict[str, Any]]:
    """The log records without measured times."""
    clock = ("seconds", "words_per_second")
    return [{k: v for k, v in record.items() if k not in clock} for record in read_records(folder)]


def run(config: TrainConfig, folder: Path, **more: bool) -> Path:
    folder.mkdir(exist_ok=True)
    train(prepare(config, folder, **more))
    return folder


@pytest.mark.slow
def test_it_learns_colors_and_sides(config: TrainConfig, tmp_path: Path) -> None:
    config = with_trainer(config, max_epochs=60, patience=None, label_smoothing=0.0, validate_every=60)
    model = replace(config.model, embedding_dim=32, hidden_dim=64, attention_dim=32)
    encoder = EncoderConfig(image_size=64)  # the pretrained default
    folder = run(replace(config, model=model, encoder=encoder), tmp_path / "run")
    captions = json.loads((folder / "captions_val.json").read_text())
    right = [c for c in captions if c["caption"] in expected_captions(c["image_id"])]
    assert len(right) >= 7, captions


def expected_captions(image_id: str) -> list[str]:
    number = int(image_id)
    color, side = list(COLORS)[number % 4], SIDES[number // 4 % 2]
    return [f"a {color} half on the {side}", f"the {side} is {color}"]


def test_the_files_of_a_finished_run(config: TrainConfig, tmp_path: Path) -> None:
    folder = run(config, tmp_path / "run")
    metrics = json.loads((folder / "metrics.json").read_text())
    captions = json.loads((folder / "captions_val.json").read_text())
    assert {"Bleu_1", "Bleu_4", "CIDEr", "signature", "run"} <= metrics.keys()
    assert [c["image_id"] for c in captions] == [f"{n:03}" for n in range(16, 24)]
    assert metrics["signature"]["split"] == "val"
    assert metrics["run"]["steps"] == 8
    kinds = [record["kind"] for record in read_records(folder)]
    assert kinds.count("train") == 8
    assert kinds.count("validation") == 2
    assert metrics["perplexity"] == pytest.approx(math.exp(metrics["loss"]))
    validations = [record for record in read_records(folder) if record["kind"] == "validation"]
    best = next(record for record in validations if record["step"] == metrics["run"]["best_step"])
    assert best["loss"] == pytest.approx(metrics["loss"], rel=1e-6), "one model, one split"
    assert len({record["loss"] for record in validations}) == 2
    assert {"loss", "perplexity"} <= set((folder / "log.csv").read_text().splitlines()[0].split(","))
    assert f"loss {best['loss']:.3f}  perplexity {best['perplexity']:.3f}" in (folder / "log.txt").read_text()
    assert "epoch 2" in (folder / "log.txt").read_text()


def test_the_scores_of_every_evaluated_split_are_kept(config: TrainConfig, tmp_path: Path) -> None:
    folder = run(with_trainer(config, evaluate_splits=["test", "val"], max_epochs=1), tmp_path / "run")
    test, val = (json.loads((folder / name).read_text()) for name in ("metrics.json", "metrics_val.json"))
    assert (test["signature"]["split"], val["signature"]["split"]) == ("test", "val")
    assert test["run"] == val["run"]
    (validation,) = [record for record in read_records(folder) if record["kind"] == "validation"]
    assert val["loss"] == pytest.approx(validation["loss"], rel=1e-6)
    assert test["loss"] != val["loss"]


def test_two_runs_give_the_same_bytes(config: TrainConfig, tmp_path: Path) -> None:
    first, second = run(config, tmp_path / "first"), run(config, tmp_path / "second")
    assert_same_weights(first, second)
    assert curve(first) == curve(second)
    assert (first / "captions_val.json").read_bytes() == (second / "captions_val.json").read_bytes()
    third = run(replace(config, seed=1), tmp_path / "third")
    assert curve(first) != curve(third)


@pytest.mark.parametrize("stop_after", [1, 4, 6])
def test_a_resumed_run_equals_an_uninterrupted_one(config: TrainConfig, tmp_path: Path, stop_after: int) -> None:
    """Stopped within the first epoch, at its end, and within the second."""
    whole = run(config, tmp_path / "whole")
    stopped = tmp_path / "stopped"
    with pytest.raises(Interrupted):
        interrupt_after(stop_after, config, stopped)
    assert not (stopped / "metrics.json").exists()
    run(config, stopped, resume=True)
    assert_same_weights(whole, stopped)
    assert curve(whole) == curve(stopped)
    assert (whole / "captions_val.json").read_bytes() == (stopped / "captions_val.json").read_bytes()


@pytest.mark.parametrize(
    "settings",
    [
        {"ema": 0.9},
        {"precision": "bfloat16"},
        {"float32_matmul_precision": "medium"},
        {"ema": 0.9, "gradient_accumulation_steps": 2},
    ],
)
def test_resume_is_exact_with(config: TrainConfig, tmp_path: Path, settings: dict[str, Any]) -> None:
    changed = with_trainer(config, **settings)
    assert_resumes_as(run(changed, tmp_path / "whole"), changed, tmp_path / "stopped", stop_after=6)


def test_hard_attention_resumes_exactly_with_its_baseline(config: TrainConfig, tmp_path: Path) -> None:
    hard = AttentionConfig(**{**vars(config.model), "attention": "hard", "gate": "none"})
    config = replace(config, model=hard)
    whole = run(config, tmp_path / "whole")
    with pytest.raises(Interrupted):
        interrupt_after(6, config, tmp_path / "stopped")
    early = weights(tmp_path / "stopped")["decoder.hard.baseline"]
    run(config, tmp_path / "stopped", resume=True)
    assert_same_weights(whole, tmp_path / "stopped")
    assert curve(whole) == curve(tmp_path / "stopped")
    assert float(early) != float(weights(whole)["decoder.hard.baseline"])


def test_the_ema_is_scored_and_stored(config: TrainConfig, tmp_path: Path) -> None:
    """The training equals that of a run without EMA; stored weights and captions differ."""
    plain, using_ema_weights = (
        run(config, tmp_path / "plain"),
        run(with_trainer(config, ema=0.9), tmp_path / "averaged"),
    )
    losses = [
        [record["loss"] for record in curve(folder) if record["kind"] == "train"]
        for folder in (plain, using_ema_weights)
    ]
    assert losses[0] == losses[1]
    state = load_trainer_state(find_checkpoint(using_ema_weights, "latest"))
    kept, last = weights(using_ema_weights), weights(plain)
    assert not torch.equal(kept["decoder.embedding.weight"], last["decoder.embedding.weight"])
    assert any(torch.equal(tensor, last["decoder.embedding.weight"]) for tensor in state["raw_weights"])


def test_the_ema_cannot_be_dropped_on_resume(config: TrainConfig, tmp_path: Path) -> None:
    folder = run(with_trainer(config, ema=0.9), tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"trainer\.ema"):
        prepare(config, folder, resume=True)


def test_another_precision_on_resume(config: TrainConfig, tmp_path: Path) -> None:
    """A checkpoint of a bfloat16 run has no gradient scale; a float16 run would start with a new one."""
    folder = run(with_trainer(config, max_epochs=1, precision="bfloat16"), tmp_path / "run")
    run(with_trainer(config, precision="float32"), folder, resume=True)
    assert read_records(folder)[-1]["epoch"] == 2


def test_another_learning_rate_on_resume(config: TrainConfig, tmp_path: Path) -> None:
    """The message for an infinite loss advises this."""
    constant = replace(config, optim=replace(config.optim, schedule="constant"))
    folder = run(with_trainer(constant, max_epochs=1), tmp_path / "run")
    slower = replace(constant, optim=replace(constant.optim, learning_rate=0.002, weight_decay=0.1, betas=(0.5, 0.6)))
    resumed = prepare(slower, folder, resume=True)
    (group,) = resumed.optimizer.param_groups
    assert (group["weight_decay"], group["betas"]) == (0.1, (0.5, 0.6))
    train(resumed)
    rates = [record["learning_rate"] for record in read_records(folder) if record["kind"] == "train"]
    assert rates == pytest.approx([0.005, 0.01, 0.01, 0.01] + [0.002] * 4)


def test_bfloat16_learns_as_float32_does(config: TrainConfig, tmp_path: Path) -> None:
    curves = [curve(run(with_trainer(config, precision=name), tmp_path / name)) for name in ("float32", "bfloat16")]
    losses = [[record["loss"] for record in records if record["kind"] == "train"] for records in curves]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
    assert losses[0] != losses[1]


def interrupt_after(steps: int, config: TrainConfig, folder: Path) -> None:
    """Train, and send this process SIGINT after `steps` steps, as Ctrl-C does."""
    folder.mkdir()
    before = training.train_step

    def step_and_interrupt(run: Run, *arguments: Any) -> dict[str, float]:
        losses = before(run, *arguments)
        if run.progress.step == steps:
            signal.raise_signal(signal.SIGINT)
        return losses

    training.train_step = step_and_interrupt
    try:
        train(prepare(config, folder))
    finally:
        training.train_step = before


def assert_resumes_as(whole: Path, config: TrainConfig, folder: Path, stop_after: int) -> None:
    """Stopped after `stop_after` steps and resumed in `folder`, the training equals the uninterrupted run `whole`."""
    with pytest.raises(Interrupted):
        interrupt_after(stop_after, config, folder)
    run(config, folder, resume=True)
    assert_same_weights(whole, folder)
    assert curve(whole) == curve(folder)


def test_more_epochs_on_resume(config: TrainConfig, tmp_path: Path) -> None:
    folder = run(config, tmp_path / "run")
    run(with_trainer(config, max_epochs=3), folder, resume=True)
    validations = [record["epoch"] for record in read_records(folder) if record["kind"] == "validation"]
    assert validations == [1, 2, 3]


def test_log_lines_are_means_over_epochs_and_interruptions(config: TrainConfig, tmp_path: Path) -> None:
    """A line every three steps, four steps per epoch: means are over the last three steps, across epochs."""
    each = curve(run(with_trainer(config, log_every=1), tmp_path / "each"))
    losses = [record["loss"] for record in each if record["kind"] == "train"]
    stopped = tmp_path / "stopped"
    with pytest.raises(Interrupted):
        interrupt_after(5, with_trainer(config, log_every=3), stopped)
    lines = [r for r in curve(run(with_trainer(config, log_every=3), stopped, resume=True)) if r["kind"] == "train"]
    assert [line["step"] for line in lines] == [3, 6]
    assert [line["loss"] for line in lines] == pytest.approx([sum(losses[:3]) / 3, sum(losses[3:6]) / 3])


def test_other_captions_cannot_be_resumed(config: TrainConfig, tmp_path: Path) -> None:
    folder = run(config, tmp_path / "run")
    table = Path(str(config.data.root)) / "captions.csv"
    table.write_text(table.read_text().replace("half", "part"))
    with pytest.raises(CheckpointError, match="vocabulary is not the one"):
        prepare(config, folder, resume=True)


def test_max_steps_ends_inside_an_epoch(config: TrainConfig, tmp_path: Path) -> None:
    folder = run(with_trainer(config, max_steps=3), tmp_path / "run")
    assert json.loads((folder / "metrics.json").read_text())["run"]["steps"] == 3


def test_early_stopping(config: TrainConfig, tmp_path: Path) -> None:
    frozen = replace(config, optim=replace(config.optim, learning_rate=0.0))  # the score cannot improve
    folder = run(with_trainer(frozen, max_epochs=9, patience=2), tmp_path / "run")
    validations = [record for record in read_records(folder) if record["kind"] == "validation"]
    assert len(validations) == 3  # the first is the best, and the next two are not better
    assert "Stopped early" in (folder / "log.txt").read_text()


def test_fine_tuning_changes_the_named_blocks_only(config: TrainConfig, tmp_path: Path) -> None:
    encoder = replace(config.encoder, fine_tune_from="features.12")
    tuned = replace(config, encoder=encoder, optim=replace(config.optim, encoder_learning_rate=0.01))
    folder = run(with_trainer(tuned, max_steps=2), tmp_path / "run")
    torch.manual_seed(tuned.seed)
    before = build_model(tuned.model, tuned.encoder, 14).encoder.state_dict()
    moved = {
        name.removeprefix("encoder.")
        for name, tensor in weights(folder).items()
        if name.startswith("encoder.") and not torch.equal(tensor, before[name.removeprefix("encoder.")])
    }
    assert moved
    assert all("features.12." in name for name in moved), moved


def test_each_batch_is_encoded_with_the_current_weights(config: TrainConfig, tmp_path: Path) -> None:
    """Fine-tuning, stopped and resumed within an epoch: an encoder that ran ahead would have used older weights."""
    encoder = replace(config.encoder, fine_tune_from="features.12")
    tuned = replace(config, encoder=encoder, optim=replace(config.optim, encoder_learning_rate=0.01))
    whole = run(with_trainer(tuned, max_epochs=1), tmp_path / "whole")
    with pytest.raises(Interrupted):
        interrupt_after(2, with_trainer(tuned, max_epochs=1), tmp_path / "stopped")
    run(with_trainer(tuned, max_epochs=1), tmp_path / "stopped", resume=True)
    assert curve(whole) == curve(tmp_path / "stopped")


@pytest.mark.parametrize("stop_after", [3, 4, 6])
def test_fine_tuning_after_an_epoch_resumes_exactly(config: TrainConfig, tmp_path: Path, stop_after: int) -> None:
    """The decoder first, then both: stopped before, at and after the start of the second phase."""
    encoder = replace(config.encoder, fine_tune_from="features.12", fine_tune_after=1)
    staged = replace(config, encoder=encoder, optim=replace(config.optim, encoder_learning_rate=0.01))
    whole = run(staged, tmp_path / "whole")
    assert (
        "Phase 2 (epoch 2): cross-entropy (XE), encoder trainable from features.12; training"
        in (whole / "log.txt").read_text()
    )
    first, second = (weights(run(with_trainer(staged, max_steps=steps), tmp_path / f"{steps}")) for steps in (4, 5))
    learnt = "encoder.trunk.features.12.squeeze.weight"
    assert not torch.equal(first[learnt], second[learnt])
    assert_resumes_as(whole, staged, tmp_path / "stopped", stop_after)


def test_the_second_phase_is_logged_once_and_must_start_in_time(config: TrainConfig, tmp_path: Path) -> None:
    encoder = replace(config.encoder, fine_tune_from="features.12", fine_tune_after=1)
    staged = replace(config, encoder=encoder)
    with pytest.raises(Interrupted):
        interrupt_after(6, staged, tmp_path / "run")
    run(staged, tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "log.txt").read_text().count("encoder trainable from features.12; training") == 1
    with pytest.raises(ConfigError, match=r"fine_tune_after=1 leaves no epoch .*max_epochs is 1"):
        prepare(with_trainer(staged, max_epochs=1), tmp_path / "late")


def test_patience_waits_for_fine_tuning(config: TrainConfig, tmp_path: Path) -> None:
    encoder = replace(config.encoder, fine_tune_from="features.12", fine_tune_after=4)
    nothing_learns = replace(config.optim, learning_rate=0.0, encoder_learning_rate=0.0)
    staged = replace(with_trainer(config, max_epochs=9, patience=2), encoder=encoder, optim=nothing_learns)
    folder = run(staged, tmp_path / "run")
    validations = [record["epoch"] for record in read_records(folder) if record["kind"] == "validation"]
    assert validations == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("stop_after", [3, 4, 6])
def test_augmentation_after_an_epoch_resumes_exactly(config: TrainConfig, tmp_path: Path, stop_after: int) -> None:
    """Whole images first, as without augmentation, then crops: stopped before, at and after the second phase starts."""
    mirrored = replace(config, cache=replace(config.cache, flips=True))
    varied = replace(mirrored, augment=AugmentConfig(scale=(0.3, 0.9), flip=0.5, after=1))
    whole, plain = run(varied, tmp_path / "whole"), run(mirrored, tmp_path / "plain")
    assert "random resized crop of 30% to 90% of the area, 50% flipped" in (whole / "log.txt").read_text()
    losses, unvaried = (
        [record["loss"] for record in curve(folder) if record["kind"] == "train"] for folder in (whole, plain)
    )
    per_epoch = len(losses) // config.trainer.max_epochs
    assert losses[:per_epoch] == unvaried[:per_epoch]
    assert losses[per_epoch] != unvaried[per_epoch]
    stopped = tmp_path / "stopped"
    assert_resumes_as(whole, varied, stopped, stop_after)
    assert (stopped / "log.txt").read_text().count("augmented images; training features from pixels") == 1


def test_a_phase_opens_the_training_features_once(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fine-tuning and augmentation start together; features of whole images would be cached in vain."""
    encoder = replace(config.encoder, fine_tune_from="features.12", fine_tune_after=1)
    staged = prepare(replace(config, encoder=encoder, augment=AugmentConfig(flip=0.5, after=1)), tmp_path / "run")
    opened: list[Augmentation | None] = []

    def noting(*arguments: Any, augmentation: Augmentation | None, **named: Any) -> FeatureSource:
        opened.append(augmentation)
        return open_features(*arguments, augmentation=augmentation, **named)

    monkeypatch.setattr(preparation, "open_features", noting)
    staged.progress.epoch = 1
    assert preparation.begin_epoch(staged)
    assert opened == [Augmentation(staged.config.augment, staged.config.seed), None]  # training, validation
    assert not preparation.begin_epoch(staged)
    assert len(opened) == 2


def test_augmentation_must_start_before_the_last_epoch_ends(config: TrainConfig) -> None:
    with pytest.raises(ConfigError, match=r"augment\.after=\d+ leaves no epoch in which images are augmented"):
        replace(config, augment=AugmentConfig(flip=0.5, after=config.trainer.max_epochs))


def test_patience_waits_for_augmentation(config: TrainConfig, tmp_path: Path) -> None:
    nothing_learns = replace(config.optim, learning_rate=0.0)
    late = replace(with_trainer(config, max_epochs=9, patience=2), optim=nothing_learns)
    folder = run(replace(late, augment=AugmentConfig(flip=0.5, after=4)), tmp_path / "run")
    validations = [record["epoch"] for record in read_records(folder) if record["kind"] == "validation"]
    assert validations == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_every_cell_trains(config: TrainConfig, tmp_path: Path, cell: str) -> None:
    model = RecurrentConfig(cell=cell, embedding_dim=8, hidden_dim=12, layers=2)
    folder = run(with_trainer(replace(config, model=model), max_epochs=1), tmp_path / "run")
    assert (folder / "metrics.json").exists()


def test_a_bad_image_is_an_error_or_skipped(config: TrainConfig, tmp_path: Path) -> None:
    broken = Path(str(config.data.root)) / "003.png"
    broken.write_bytes(broken.read_bytes()[:100])
    with pytest.raises(ImageError, match=r"003\.png"):
        run(config, tmp_path / "error")
    for enabled in (True, False):
        skipping = replace(config, data=replace(config.data, on_bad_image="skip"), cache=CacheConfig(enabled=enabled))
        folder = run(with_trainer(skipping, max_epochs=1), tmp_path / f"skip-{enabled}")
        said = (folder / "log.txt").read_text()
        assert said.count("Skipped in train:") == 1
        assert "003.png" in said
        assert (folder / "metrics.json").exists()


@pytest.mark.parametrize("stop_after", [2, 6])
@pytest.mark.parametrize("cached", [True, False])
def test_skipped_images_are_logged_once_and_the_run_resumes_exactly(
    config: TrainConfig, tmp_path: Path, cached: bool, stop_after: int
) -> None:
    for name in ("003.png", "010.png", "017.png"):
        (Path(str(config.data.root)) / name).write_bytes(f"no image, {name}".encode())
    skipping = replace(config, data=replace(config.data, on_bad_image="skip"), cache=CacheConfig(enabled=cached))
    assert_resumes_as(run(skipping, tmp_path / "whole"), skipping, tmp_path / "stopped", stop_after)
    said = (tmp_path / "stopped" / "log.txt").read_text()
    assert [said.count(f"{number}.png") for number in ("003", "010", "017")] == [1, 1, 1]


def test_batches_without_readable_images_are_not_part_of_the_means(config: TrainConfig, tmp_path: Path) -> None:
    skipping = replace(config, data=replace(config.data, on_bad_image="skip"), cache=CacheConfig(enabled=False))
    single = with_trainer(skipping, batch_size=1, max_steps=6, log_every=1)
    prepared = prepare(single, tmp_path)
    first = epoch_batches(prepared.indices, 1, single.seed, 0)[0][0]
    prepared.train_set.images[first].path.write_bytes(b"no image")
    folder = run(single, tmp_path / "run")
    lines = [record for record in read_records(folder) if record["kind"] == "train"]
    assert [line["step"] for line in lines] == [2, 3, 4, 5, 6]
    assert all(line["loss"] > 1 for line in lines)


def test_random_encoder_of_another_size_is_another_cache(config: TrainConfig, tmp_path: Path) -> None:
    run(with_trainer(config, max_steps=1), tmp_path / "a")
    other = replace(config, encoder=replace(ENCODER, image_size=96))
    run(with_trainer(other, max_steps=1), tmp_path / "b")
    assert len(list(Path(os.environ["CAPTIONER_CACHE"]).glob("features/*"))) == 2


def test_an_infinite_loss_ends_the_run_and_names_the_batch(config: TrainConfig, tmp_path: Path) -> None:
    lost = replace(config, optim=replace(config.optim, learning_rate=1e30, warmup_steps=0, clip_norm=None))
    with pytest.raises(TrainingError, match=r"The loss became (nan|inf) at step \d+ \(epoch 1\), in the batch .*0\d\d"):
        run(lost, tmp_path / "run")


def test_a_forged_trainer_state_is_an_error(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run(with_trainer(config, max_steps=1), tmp_path / "run")
    for state in ({}, {"optimizer": {}, "progress": {"steps": 1}, "random_state": 1}):
        monkeypatch.setattr("captioner.training.resume.load_trainer_state", lambda folder, state=state: state)
        with pytest.raises(CheckpointError, match="does not fit this run"):
            prepare(config, folder, resume=True)
