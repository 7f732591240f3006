"""`train.py task=language_model` and `sample` from the shell: a run, a sweep, a resumed run, and mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from captioner.cli.runs import main as runs
from captioner.cli.sample import main as sample
from captioner.cli.train import main
from tests.cli.conftest import Command

TASK = (
    "task=language_model",
    "data.size=3000",
    "model.embedding_dim=8",
    "model.hidden_dim=12",
    "trainer.streams=8",
    "trainer.window=24",
    "trainer.max_epochs=1",
    "trainer.baseline_order=1",
    "sampling.length=20",
    "device=cpu",
)

WRITE = (*("--checkpoint", "run", "--prompt", 'if (x = "', "--length", "30", "--temperature", "0.8", "--seed", "4"),)


def test_train_sample_resume(command: Command) -> None:
    result = command(main, *TASK, "hydra.run.dir=run")
    assert result.code == 0, result.err
    assert "bits per character" in result.out
    assert "n-grams, 1 characters of context (bits)" in result.out
    assert "python -m captioner sample --checkpoint run" in result.out
    assert {"metrics.json", "samples.md", "config.yaml", "log.txt", "log.jsonl", "log.csv", "checkpoints"} == {
        path.name for path in Path("run").iterdir()
    }
    written = command(sample, *WRITE)
    assert written.code == 0, written.err
    assert written.out.startswith('if (x = "')
    assert len(written.out) == len('if (x = "') + 30 + 1
    assert written == command(sample, *WRITE)
    record = json.loads(command(sample, *WRITE, "--json").out)
    assert record["text"] + "\n" == written.out
    assert record["prompt"] + "".join(record["tokens"]) == record["text"]
    resumed = command(main, "resume=run", "trainer.max_epochs=2")
    assert resumed.code == 0, resumed.err
    assert json.loads(Path("run/metrics.json").read_text())["run"]["epochs"] == 2
    wrong = command(main, "resume=run", "task=captioning")
    assert wrong.code == 2
    assert "run is a run of task=language_model" in wrong.err


def test_a_sweep_ends_in_one_table_that_runs_shows_again(command: Command) -> None:
    result = command(main, *TASK, "-m", "cell=rnn,gru", "hydra.sweep.dir=runs/sweep")
    assert result.code == 0, result.err
    table = Path("runs/sweep/sweep.md").read_text()
    assert "bits per character, test" in table
    assert table in result.out
    assert table.count("\n") == 4
    again = command(runs)
    assert again.code == 0
    assert again.out.count("language_model_") == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["task=language_modle"], "task='language_modle' does not exist. Did you mean language_model?"),
        (["model.cell=lsmt"], "model.cell='lsmt' does not exist. Did you mean lstm?"),
        (["model=lstm"], "model=… cannot be set here, but model.name=… can"),
        (["trainer.windows=3"], "trainer.windows does not exist. Did you mean trainer.window"),
        (["trainer.window=0"], "trainer.window=0 is too small"),
        (["data.text=nowhere.txt"], "data.text=nowhere.txt does not exist"),
        (["data.level=word"], "Did you mean words?"),
        (["trainer.streams=5000"], "too few for trainer.streams=5000"),
        (["sampling.temperature=0"], "sampling.temperature=0"),
    ],
)
def test_a_mistake_is_one_clear_message(command: Command, options: list[str], message: str) -> None:
    given = [option for option in TASK if option.split("=")[0] != options[0].split("=")[0]]
    result = command(main, *given, "hydra.run.dir=run", *options)
    assert result.code == 2, result.err
    assert message in result.err
    assert "Traceback" not in result.err
    assert not Path("run").exists(), "no empty run folder is left behind"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--prompt", "a"], "--checkpoint is missing"),
        (["--checkpoint", "nowhere"], "nowhere is not a folder"),
        (["--checkpoint", "run", "--promt", "a"], "--promt does not exist. Did you mean --prompt?"),
        (["--checkpoint", "run", "--length", "many"], "--length many has the wrong type: expected a whole number"),
        (["--checkpoint", "run", "--temperature", "0"], "temperature=0"),
        (["run"], "run is not expected here: write --checkpoint run"),
        (["prompt=a b"], "write --prompt 'a b' instead of prompt=a b"),
    ],
)
def test_mistakes_of_sample(command: Command, options: list[str], message: str) -> None:
    result = command(sample, *options)
    assert result.code == 2
    assert message in result.err


def test_help(command: Command) -> None:
    assert "temperature" in command(sample, "--help").out
    assert "task=language_model data.text=FILE" in command(main, "--help").out
    ours = command(main, "task=language_model", "--help")
    assert "trainer.window=64" in ours.out
    assert "_schema" not in ours.out
