"""Every decoder: a run that was stopped between two epochs ends with the bytes of an uninterrupted one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from captioner.checkpoint.index import find_checkpoint
from captioner.config import DECODERS, CacheConfig
from captioner.training.loop import train
from captioner.training.setup import prepare
from tests.tiny import encoder_of, tiny_config, with_trainer, write_tiny_data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data and their features, which all decoders share."""
    folder = tmp_path_factory.mktemp("resume_decoders")
    write_tiny_data(folder / "data")
    return folder


@pytest.mark.parametrize("model", DECODERS)
def test_a_resumed_run_equals_the_uninterrupted_one(model: str, folder: Path, tmp_path: Path) -> None:
    config = with_trainer(tiny_config(write_tiny_data(folder / "data")), max_epochs=2, validate_every=1)
    config = replace(
        config,
        model=DECODERS[model](name=model, embedding_dim=8, hidden_dim=8, layers=2, dropout=0.2),
        optim=replace(config.optim, schedule="constant"),
        cache=CacheConfig(directory=str(folder / "cache")),
        encoder=encoder_of(model),
    )
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
    train(prepare(config, tmp_path / "whole"))
    train(prepare(with_trainer(config, max_steps=4), tmp_path / "stopped"))
    train(prepare(config, tmp_path / "stopped", resume=True))
    whole, stopped = (
        load_file(find_checkpoint(tmp_path / name, "latest") / "model.safetensors") for name in ("whole", "stopped")
    )
    assert whole.keys() == stopped.keys()
    assert all(torch.equal(whole[name], stopped[name]) for name in whole)
