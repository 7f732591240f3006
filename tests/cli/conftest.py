"""Running a command in this process, as a person would from the shell."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from captioner.cli.train import main as train
from captioner.config import FolderConfig
from tests.tiny import write_tiny_data


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


Command = Callable[..., Outcome]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """command(main, "option", …) → exit code, standard output, standard error; in an empty working folder."""
    monkeypatch.chdir(tmp_path)

    def run(main: Callable[[], None], *arguments: str) -> Outcome:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["command", *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
        code = stopped.value.code
        return Outcome(code if isinstance(code, int) else 1, *capsys.readouterr())

    return run


@pytest.fixture
def tiny(tmp_path: Path) -> FolderConfig:
    return write_tiny_data(tmp_path / "data")


SMALL = (
    "data=folder",
    "data.root=data",
    "data.num_workers=0",
    "encoder=torchvision",
    "encoder.name=shufflenet_v2_x0_5",
    "encoder.weights=null",
    "encoder.image_size=64",
    "model.embedding_dim=8",
    "model.hidden_dim=8",
    "trainer.max_epochs=1",
    "trainer.output_bias=zeros",  # one step: <END>, which is frequent, would be all that the model has learned
    "vocabulary.min_count=1",
    "metric.names=[Bleu,CIDEr]",
    "device=cpu",
)
"""Options of a training that takes a second, on the tiny data set."""

SmallRun = Callable[..., Path]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """trained("model=gru", …): a folder with `data`, `cache`, and the run of SMALL with these options in `run`.

    Each is trained once, by train.py, for all tests. They copy it with `small_run`.
    """
    folders: dict[tuple[str, ...], Path] = {}

    def train_once(*options: str) -> Path:
        if options not in folders:
            folder = tmp_path_factory.mktemp("trained")
            write_tiny_data(folder / "data")
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(folder)
                patch.setenv("CAPTIONER_CACHE", str(folder / "cache"))
                patch.setattr(sys, "argv", ["train.py", *SMALL, *options, "hydra.run.dir=run"])
                with pytest.raises(SystemExit) as stopped:
                    train()
            assert not stopped.value.code
            folders[options] = folder
        return folders[options]

    return train_once


@pytest.fixture
def small_run(command: Command, tiny: FolderConfig, trained: SmallRun) -> SmallRun:
    """small_run("runs/first", "model=gru", …): a copy of the run that train.py makes with these options of SMALL.

    In the working folder, beside `data`; its features are in the test's cache, as after a training.
    """

    def copy(run: str, *options: str) -> Path:
        folder = trained(*options)
        shutil.copytree(folder / "cache", os.environ["CAPTIONER_CACHE"], dirs_exist_ok=True)
        return Path(shutil.copytree(folder / "run", run))

    return copy


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exported card without its command, whose search composes settings a dozen times."""
    monkeypatch.setattr("captioner.cli.repro_command.training_command", lambda settings: "python train.py")
