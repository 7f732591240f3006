"""`python -m captioner gradients` on runs of several cells."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from captioner.cli.gradients import main
from captioner.cli.train import main as train
from tests.cli.conftest import Command
from tests.cli.test_language_model import TASK


def test_an_image_and_a_table(command: Command) -> None:
    for cell, name in (("rnn", "rnn"), ("lstm", "second")):
        folder = f"hydra.run.dir={name}"
        assert command(train, *TASK, f"cell={cell}", folder, "trainer.sample_stages=0").code == 0
    result = command(main, "--checkpoint", "rnn", "second", "--distance", "12", "--streams", "3", "--untrained")
    assert result.code == 0, result.err
    assert Path("gradients.png").is_file()
    rows = list(csv.DictReader(Path("gradients.csv").read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 12
    assert list(rows[0]) == ["distance", "rnn", "second (lstm)", "rnn, untrained", "second (lstm), untrained"]
    assert all(float(value) >= 0 for row in rows for value in row.values())
    as_json = command(main, "--checkpoint", "rnn", "second", "--distance", "12", "--streams", "3", "--json")
    record = json.loads(as_json.out)
    assert record["distance"] == list(range(12))
    for name, norms in record["median_norm"].items():
        assert [f"{norm:.3g}" for norm in norms] == [row[name] for row in rows]
    for options, message in (
        (["--checkpoint", "lst", "rnn"], "lst is not a folder"),
        (["--checkpoint", "rnn", "--distance", "5000"], "lower one of them"),
        (["--checkpoint", "rnn", "--out", "nowhere"], "--out nowhere is not a folder"),
        (["--checkpoint", "rnn", "untrained=true"], "write --untrained instead of untrained=true"),
        (["--distance", "5"], "--checkpoint is missing"),
    ):
        wrong = command(main, *options)
        assert wrong.code == 2
        assert message in wrong.err
