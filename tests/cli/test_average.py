"""`average=best3` in evaluate.py, `--average best3` in caption.py and `captioner export`, on a run that keeps three."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from captioner.checkpoint.checkpoint import load_checkpoint
from captioner.checkpoint.index import read_index
from captioner.cli.caption import main as caption
from captioner.cli.evaluate import main as evaluate
from captioner.cli.export import main as export
from tests.cli.conftest import Command, SmallRun


@pytest.fixture
def here(small_run: SmallRun, tmp_path: Path) -> Path:
    """The working folder, with data/ and a finished run of four epochs in runs/first."""
    small_run("runs/first", "model=lstm", "trainer.max_epochs=4", "trainer.keep_best=3", "trainer.patience=null")
    return tmp_path


def test_training_keeps_the_best_with_their_scores(here: Path) -> None:
    index = read_index(here / "runs/first")
    assert index is not None
    records = [json.loads(line) for line in (here / "runs/first/log.jsonl").read_text().splitlines()]
    scored = [(record["step"], record["CIDEr"]) for record in records if record["kind"] == "validation"]
    assert len(scored) == 4
    best = sorted(scored, key=lambda pair: -pair[1])[:3]
    assert index.ranking()[:3] == [f"step-{step:08d}" for step, _ in best]
    assert [index.scores[name] for name in index.ranking()[:3]] == pytest.approx([score for _, score in best])
    assert (index.best, index.monitor) == (index.ranking()[0], "CIDEr")


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "metrics",
    [
        pytest.param(["metric.names=[Bleu,CIDEr]"], id="two metrics"),
        pytest.param([], id="all metrics", marks=pytest.mark.slow),  # METEOR makes its index for each cache: 8 s
    ],
)
def test_every_command_captions_with_the_mean_of_the_three(here: Path, command: Command, metrics: list[str]) -> None:
    options = ["checkpoint=runs/first", "average=best3", "baselines=[runs/first]", "device=cpu", *metrics]
    evaluated = command(evaluate, *options, "hydra.run.dir=out")
    assert evaluated.code == 0, evaluated.err
    assert "first (best3)" in evaluated.out
    exported = command(
        export, "--checkpoint", "runs/first", "--average", "best3", "--out", "mean", "--float32", "--with-encoder"
    )
    assert exported.code == 0, exported.err
    assert "Without scores" in exported.err
    assert not (here / "mean/metrics.json").exists(), "those of the run are of another model"
    names = [path.name for path in (here / "runs/first/checkpoints").glob("step-*")]
    index = read_index(here / "runs/first")
    assert index is not None
    states = [
        load_checkpoint(here / "runs/first/checkpoints" / name).model.state_dict() for name in index.ranking()[:3]
    ]
    assert set(index.ranking()[:3]) <= set(names)
    for name, tensor in load_checkpoint(here / "mean").model.decoder.state_dict().items():
        parts = [state[f"decoder.{name}"].double().numpy() for state in states]
        np.testing.assert_allclose(tensor.numpy(), np.mean(parts, axis=0), atol=1e-7)
    photo = sorted((here / "data").glob("*.png"))[20]
    told = command(caption, str(photo), "--checkpoint", "runs/first", "--average", "best3", "--device", "cpu")
    assert told.code == 0, told.err
    assert told.out == command(caption, str(photo), "--checkpoint", "mean", "--device", "cpu").out
    written = json.loads((here / "out/captions_val.json").read_text())
    results = {entry["image_id"]: entry["caption"] for entry in written}
    assert told.out.strip().rpartition("] ")[2] in results.values()


@pytest.mark.parametrize(
    ("main", "arguments", "message"),
    [
        (evaluate, ["checkpoint=runs/first", "average=best9"], "has kept"),
        (evaluate, ["checkpoint=runs/first", "average=tset3"], "expected bestN, such as best3"),
        (evaluate, ["results=x.json", "average=best3"], "a file of captions has no weights"),
        (evaluate, ["checkpoint=runs/first", "avrage=best3"], "average"),
        (caption, ["data/000.png", "--checkpoint", "runs/first", "--average", "best9"], "has kept"),
        (caption, ["data/000.png", "--average", "best3"], "is not a run folder"),
        (caption, ["data/000.png", "--checkpoint", "runs/first", "--avarage", "best3"], "Did you mean --average"),
        (export, ["--checkpoint", "runs/first", "--out", "x", "--average", "best9"], "has kept"),
        (export, ["--checkpoint", "runs/first", "--out", "x", "--average", "best2", "--latest"], "--latest has no"),
        (export, ["--checkpoint", "runs/first", "--add-onnx", "--average", "best2"], "weights of one checkpoint"),
    ],
)
def test_mistakes(here: Path, command: Command, main: object, arguments: list[str], message: str) -> None:
    assert callable(main)
    result = command(main, *arguments)
    assert result.code == 2
    assert message in result.err
    assert "Traceback" not in result.err
    assert not (here / "x").exists()
