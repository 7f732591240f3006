"""caption.py: photos in, captions out; the newest run by default; broken photos named."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from captioner.checkpoint import pretrained
from captioner.cli.caption import main
from captioner.cli.runs_folder import newest_run, note_newest
from captioner.cli.train import main as train
from captioner.config import FolderConfig
from captioner.errors import CheckpointError
from tests.cli.conftest import SMALL, Command


@pytest.fixture
def run(command: Command, tiny: FolderConfig) -> Path:
    assert command(train, *SMALL, "model=attention", "model.attention_dim=8", "hydra.run.dir=runs/first").code == 0
    return Path("runs/first")


def test_the_newest_finished_run_captions(command: Command, run: Path) -> None:
    result = command(main, "data/003.png")
    assert result.code == 0, result.err
    assert result.out.count("\n") == 1
    assert "Using runs/first" in result.err  # also where there is a model that comes with the package


def test_folder_json_and_alternatives(command: Command, run: Path) -> None:
    result = command(main, "data", "--checkpoint", "runs/first", "--json", "--alternatives", "2", "--device", "cpu")
    rows = [json.loads(line) for line in result.out.splitlines()]
    assert [Path(row["path"]).name for row in rows] == [f"{n:03}.png" for n in range(32)]
    for row in rows:
        assert len(row["alternatives"]) == 2
        assert all(other["log_prob"] <= row["log_prob"] for other in row["alternatives"])


def test_plot_is_an_image(command: Command, run: Path) -> None:
    options = ("--contour", "0.5", "--scale", "word")
    result = command(main, "data/003.png", "data/004.png", "--plot", "sheet.png", *options)
    assert result.code == 0, result.err
    with Image.open("sheet.png") as sheet:
        assert sheet.format == "PNG"


def test_a_broken_image_among_others_is_named_and_the_others_captioned(command: Command, run: Path) -> None:
    Path("data/003.png").write_bytes(b"not an image")
    result = command(main, "data/002.png", "data/003.png", "data/004.png")
    assert result.code == 2
    assert "003.png" in result.err
    assert result.out.count("\n") == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.jpg"], "nothing.jpg"),
        (["data/003.png", "--contour", "50"], "expected a share between 0 and 1"),
        (["empty"], "contains no images"),
        (["data/003.png", "--checkpoint", "runs/frist"], "Did you mean runs/first"),
        (["data/003.png", "--plot", "nowhere/out.png"], "nowhere"),
        (["data/003.png", "--alternatives", "-1"], "expected 0 or more"),
        (["data/003.png", "--beam-width", "0"], "decode.beam_width=0 is too small"),
        (["data/003.png", "--device", "gpu"], "device='gpu'"),
    ],
)
def test_a_mistake_is_one_clear_message(command: Command, run: Path, arguments: list[str], message: str) -> None:
    Path("empty").mkdir()
    result = command(main, *arguments)
    assert result.code == 2, result.err
    assert message in result.err
    assert "Traceback" not in result.err


def test_without_any_run_or_model_it_says_how_to_get_one(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path / "none")
    result = command(main, "photo.jpg")
    assert result.code == 2
    assert "train.py model=attention" in result.err


def test_newest_run_looks_into_sweeps_and_ignores_unfinished_runs(tmp_path: Path) -> None:
    for number, name in enumerate(("old", "sweep/0_rnn", "unfinished")):
        folder = tmp_path / name
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "checkpoints" / "index.json").write_text("{}")
        if name != "unfinished":
            (folder / "metrics.json").write_text("{}")
            os.utime(folder / "metrics.json", (number, number))
    assert newest_run(tmp_path) == tmp_path / "sweep/0_rnn"
    note_newest(tmp_path / "old", tmp_path)  # finished again, by a clock that was set back
    assert newest_run(tmp_path) == tmp_path / "old"
    shutil.rmtree(tmp_path / "old")
    assert newest_run(tmp_path) == tmp_path / "sweep/0_rnn"
    with pytest.raises(CheckpointError):
        newest_run(tmp_path / "nowhere")
