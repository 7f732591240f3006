"""A training that starts from a checkpoint: its weights, its words, its preprocessing, and an exact resume."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from captioner.checkpoint.checkpoint import load_checkpoint
from captioner.checkpoint.index import find_checkpoint
from captioner.config import AttentionConfig, CacheConfig, TrainConfig, TransformConfig
from captioner.errors import ConfigError
from captioner.nn.encoders.class_head import has_class_head
from captioner.training.init_from import with_settings_of_checkpoint
from captioner.training.logs import RunLog
from captioner.training.loop import train
from captioner.training.resume import save
from captioner.training.setup import prepare
from tests.tiny import tiny_config, with_trainer, write_tiny_data


@pytest.fixture
def trained(tiny_run: Path) -> Path:
    """A finished run."""
    return tiny_run


def fine_tuning(trained: Path, folder: Path, images: int = 32) -> TrainConfig:
    """Settings of two epochs that start from the run; on fewer images, so that some of its words do not occur."""
    config = replace(tiny_config(write_tiny_data(folder / "data", images)), init_from=str(trained))
    config.cache = CacheConfig(directory=str(folder / "cache"))
    config.optim = replace(config.optim, schedule="constant")  # which does not depend on max_steps
    return with_settings_of_checkpoint(with_trainer(config, max_epochs=2, validate_every=1))


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    return load_file(find_checkpoint(run, "latest") / "model.safetensors")


def test_it_starts_with_the_weights_and_words_of_the_checkpoint(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    run = prepare(fine_tuning(trained, tmp_path), tmp_path / "run")
    stored = load_checkpoint(trained)
    assert run.vocabulary == stored.vocabulary
    assert run.config.model == stored.settings.model
    for name, tensor in stored.model.state_dict().items():
        torch.testing.assert_close(run.model.state_dict()[name], tensor, rtol=0, atol=0)
    result = train(run)
    changed = load_checkpoint(tmp_path / "run").model.decoder.state_dict()
    assert not torch.equal(changed["init.weight"], stored.model.decoder.state_dict()["init.weight"])
    assert result.evaluations


def test_its_preprocessing_is_that_of_the_checkpoint(trained: Path, tmp_path: Path) -> None:
    """Also where no setting of the encoder gives it: an imported model resizes by Lanczos."""
    (tmp_path / "run").mkdir()
    source = prepare(fine_tuning(trained, tmp_path), tmp_path / "run")
    source.model.encoder.transform = TransformConfig(size=64, interpolation="lanczos", mean=(0.5, 0.5, 0.5))
    with RunLog(tmp_path / "run") as log:
        save(source, log, is_best=True)
    config = replace(fine_tuning(trained, tmp_path), init_from=str(tmp_path / "run"))
    (tmp_path / "second").mkdir()
    assert prepare(config, tmp_path / "second").model.encoder.transform == source.model.encoder.transform


def test_a_resumed_run_needs_the_first_checkpoint_no_longer_and_ends_the_same(trained: Path, tmp_path: Path) -> None:
    source = shutil.copytree(trained, tmp_path / "source")
    config = fine_tuning(source, tmp_path)
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
    train(prepare(config, tmp_path / "whole"))
    train(prepare(with_trainer(config, max_steps=4), tmp_path / "stopped"))
    shutil.rmtree(source)
    train(prepare(config, tmp_path / "stopped", resume=True))
    whole, stopped = weights_of(tmp_path / "whole"), weights_of(tmp_path / "stopped")
    assert all(torch.equal(whole[name], stopped[name]) for name in whole)


def test_a_model_that_does_not_fit_is_refused(trained: Path, tmp_path: Path) -> None:
    config = replace(fine_tuning(trained, tmp_path), model=AttentionConfig(hidden_dim=9))
    with pytest.raises(ConfigError, match=r"its weights do not fit the settings of model and encoder"):
        prepare(config, tmp_path / "run")


def test_the_published_classifier_stays_that_of_the_encoder(trained: Path, tmp_path: Path) -> None:
    """So that a fine-tuned model has tags; weights of a file are no published ones, and are in the checkpoint."""
    plain = load_checkpoint(trained).settings.encoder
    assert fine_tuning(trained, tmp_path).encoder.weights == plain.weights
    bundled = replace(TrainConfig(), init_from="flickr8k")
    encoder = with_settings_of_checkpoint(bundled).encoder
    assert encoder.weights == load_checkpoint(Path("flickr8k")).settings.encoder.weights == "DEFAULT"
    assert has_class_head(encoder)
