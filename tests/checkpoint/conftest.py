"""A small finished run, trained once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from captioner.training.loop import train
from captioner.training.setup import prepare
from tests.tiny import tiny_config, with_trainer, write_tiny_data


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data/ and a small finished run in run/."""
    folder = tmp_path_factory.mktemp("finished")
    config = with_trainer(tiny_config(write_tiny_data(folder / "data")), max_epochs=1)
    (folder / "run").mkdir()
    train(prepare(config, folder / "run"))
    return folder


@pytest.fixture
def run(home: Path, tmp_path: Path) -> Path:
    """A copy of the run, to be changed."""
    return Path(shutil.copytree(home / "run", tmp_path / "run"))
