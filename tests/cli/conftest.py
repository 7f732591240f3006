"""Running a command in this process, as a person would from the shell."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

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
    "vocabulary.min_count=1",
    "metric.names=[Bleu,CIDEr]",
    "device=cpu",
)
"""Options of a training that takes a second, on the tiny data set."""
