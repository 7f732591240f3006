"""`python train.py init_from=RUN`: which settings the checkpoint decides, and which the command line."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from captioner.checkpoint.checkpoint import load_checkpoint
from captioner.cli.train import main
from tests.cli.conftest import SMALL, Command
from tests.tiny import write_tiny_data


@pytest.fixture
def trained(tiny_run: Path) -> Path:
    """A finished run."""
    return tiny_run


def test_the_command_takes_the_checkpoint_s_model(command: Command, trained: Path, tmp_path: Path) -> None:
    write_tiny_data(tmp_path / "data")
    options = [option for option in SMALL if not option.startswith(("model", "encoder", "vocabulary"))]
    options += [f"init_from={trained}", "trainer.max_steps=2"]
    result = command(main, *options, "model.dropout=0.3", "hydra.run.dir=runs/second")
    assert result.code == 0, result.err
    settings = load_checkpoint(tmp_path / "runs/second").settings
    assert settings.model == replace(load_checkpoint(trained).settings.model, dropout=0.3)
    for option in ("model=lstm", "encoder=resnet50", "encoder.image_size=96", "vocabulary.min_count=2"):
        result = command(main, *options, option, "hydra.run.dir=runs/third")
        assert result.code == 2
        assert f"{option} cannot go with init_from=" in result.err
    assert not (tmp_path / "runs/third").exists()


def test_resuming_a_run_without_a_training_names_init_from(command: Command, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "imported")
    result = command(main, "resume=imported")
    assert result.code == 2
    assert result.err.endswith("start one from its weights with init_from=imported.\n")
