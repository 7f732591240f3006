"""`python -m captioner cells` on a language model and on a captioner, and every kind of mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from captioner.cli.cells import main
from captioner.cli.train import main as train
from tests.cli.conftest import Command, SmallRun
from tests.cli.test_language_model import TASK


def test_a_language_model(command: Command) -> None:
    assert command(train, *TASK, "hydra.run.dir=run", "trainer.sample_stages=0").code == 0
    result = command(main, "--checkpoint", "run", "--top", "2")
    assert result.code == 0, result.err
    assert Path("run/cells/units.md").read_text() in result.out
    drawn = sorted(path.name.split("_layer1")[0] for path in Path("run/cells").glob("*_layer1.*.png"))
    assert {"line_position", "word"} <= set(drawn)
    assert len(list(Path("run/cells").glob("*.html"))) == len(drawn)
    assert Path("run/cells/saturation.png").is_file()
    assert "layer1.forget_gate" in result.out
    Path("own.txt").write_text('he said "(no)"\n' * 20)
    result = command(
        main, "--checkpoint", "run", "--text", "own.txt", "--property", "quotes", "--out", "own", "--scale", "tanh"
    )
    assert result.code == 0, result.err
    (page,) = Path("own").glob("quotes_*.html")
    assert "&quot;" in page.read_text()
    result = command(main, "--checkpoint", "run", "--unit", "layer1.forget_gate.3", "--out", "unit")
    assert result.code == 0, result.err
    assert {path.name for path in Path("unit").iterdir()} == {
        "layer1.forget_gate.3.png",
        "layer1.forget_gate.3.html",
    }
    for options, message in (
        (["--property", "qoutes"], "Did you mean quotes?"),
        (["--unit", "layer1.h.12"], "layer1.h has the units 0 to 11"),
        (["--text", "nowhere.txt"], "nowhere.txt does not exist"),
        (["--tokns", "3"], "--tokns does not exist. Did you mean --tokens"),
        (["--tokens", "0"], "--tokens=0 is too small"),
        (["read=30"], "This command takes flags: write --tokens 30 instead of read=30."),
        (["--scale", "log"], "Choose one of: percentile, tanh"),
    ):
        result = command(main, "--checkpoint", "run", "--out", "wrong", *options)
        assert result.code == 2
        assert message in result.err
    assert not Path("wrong").exists()


def test_a_captioner(command: Command, small_run: SmallRun) -> None:
    small_run("run", "model=attention")
    result = command(main, "--checkpoint", "run", "--property", "position")
    assert result.code == 0, result.err
    assert list(Path("run/cells").glob("position_*.png"))
    result = command(main, "--checkpoint", "run", "--property", "object:red", "--images", "8")
    assert result.code == 0, result.err
    wrong = command(main, "--checkpoint", "run", "--property", "color:red")
    assert wrong.code == 2
    assert "Choose one of: object, position, word" in wrong.err


@pytest.mark.parametrize(
    ("options", "message"), [(["--unit", "a"], "--checkpoint is missing"), (["--checkpoint", "no"], "no is")]
)
def test_mistakes(command: Command, options: list[str], message: str) -> None:
    result = command(main, *options)
    assert result.code == 2
    assert message in result.err


def test_a_model_without_an_rnn_cell_is_one_message(command: Command, small_run: SmallRun) -> None:
    small_run("run", "model=transformer", "model.heads=2")
    result = command(main, "--checkpoint", "run")
    assert result.code == 2
    assert "has no RNN cell, whose units could be shown" in result.err
    assert result.err.count("\n") == 1
