"""`python -m captioner runs`: the same table for old runs as at a sweep's end."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from captioner.cli.runs import main
from captioner.cli.tables import sorted_rows
from captioner.cli.train import main as train
from captioner.config import FolderConfig
from tests.cli.conftest import SMALL, Command


def write_run(folder: Path, cider: float) -> None:
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "index.json").write_text("{}")
    record = {"CIDEr": cider, "signature": {"split": "val"}, "run": {"parameters": 1_500_000, "epochs": 3}}
    (folder / "metrics.json").write_text(json.dumps(record))


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def test_the_loss_of_the_references_is_another_column_than_that_of_the_training(command: Command) -> None:
    """Neither is multiplied by 100, and the lowest comes first."""
    for name, loss in (("bad", 3.25), ("good", 2.5)):
        write_run(Path("runs", name), 0.5)
        path = Path("runs", name, "metrics.json")
        record = json.loads(path.read_text())
        record |= {"loss": loss, "perplexity": 2 * loss}
        record["run"]["loss"] = 1.125
        path.write_text(json.dumps(record))
    for column in ("held-out loss", "perplexity"):
        result = command(main, "--sort", column)
        assert result.code == 0, result.err
        header, _, first, second = cells(result.out)
        assert header == [
            "run",
            "split",
            "decoder parameters",
            "words/s",
            "epochs",
            "loss",
            "held-out loss",
            "CIDEr",
            "perplexity",
        ]
        assert [first[0], *first[-4:]] == ["good", "1.125", "2.500", "50.00", "5.00"]
        assert [second[0], *second[-4:]] == ["bad", "1.125", "3.250", "50.00", "6.50"]


def test_the_best_is_first(command: Command) -> None:
    for name, cider in (("good", 0.5), ("sweep/0_best", 0.875), ("bad", 0.125)):
        write_run(Path("runs", name), cider)
    result = command(main, "--sort", "CIDEr")
    assert result.code == 0, result.err
    rows = cells(result.out)
    assert rows[0] == ["run", "split", "decoder parameters", "words/s", "epochs", "CIDEr"]
    assert rows[2:] == [
        ["sweep/0_best", "val", "1.5 M", "", "3", "87.50"],
        ["good", "val", "1.5 M", "", "3", "50.00"],
        ["bad", "val", "1.5 M", "", "3", "12.50"],
    ]
    assert command(main, "--csv").out.splitlines()[0] == "run,split,decoder parameters,words/s,epochs,CIDEr"


def test_by_any_column_the_best_first(command: Command) -> None:
    for name, bits in (("good", 1.5), ("best", 1.25), ("bad", 3.0)):
        write_run(Path("runs", name), 0.5)
        record = {"task": "language_model", "bits_per_character": {"val": bits}, "run": {"tokens_per_second": 9}}
        Path("runs", name, "metrics.json").write_text(json.dumps(record))
    write_run(Path("runs/captioner"), 0.5)
    for column in ("bits per character, val", "run"):
        rows = [row[0] for row in cells(command(main, "--sort", column).out)[2:]]
        assert rows == {"run": ["bad", "best", "captioner", "good"]}.get(column, ["best", "good", "bad", "captioner"])


def test_runs_that_are_not_finished_are_named(command: Command) -> None:
    write_run(Path("runs/done"), 0.5)
    Path("runs/stopped").mkdir()
    Path("runs/stopped/config.yaml").write_text("seed: 0\n")
    assert "Not finished: runs/stopped" in command(main).err


def test_a_sweep_s_table_is_that_of_its_runs(command: Command, tiny: FolderConfig) -> None:
    assert command(train, *SMALL, "-m", "model=rnn,gru", "hydra.sweep.dir=runs/sweep").code == 0
    assert command(main, "runs/sweep").out == Path("runs/sweep/sweep.md").read_text()


def test_settings_that_differ_are_shown_and_seeds_averaged(command: Command) -> None:
    for number, (cell, seed, cider) in enumerate([("gru", 0, 0.5), ("gru", 1, 0.7), ("rnn", 0, 0.3), ("rnn", 1, 0.4)]):
        write_run(Path(f"runs/{number}"), cider)
        Path(f"runs/{number}/config.yaml").write_text(f"model: {{cell: {cell}, layers: 1}}\nseed: {seed}\n")
    rows = [
        [c.strip() for c in line.strip("|").split("|")] for line in command(main, "--sort", "CIDEr").out.splitlines()
    ]
    assert rows[0] == ["run", "model.cell", "seed", "split", "decoder parameters", "words/s", "epochs", "CIDEr"]
    assert [row[1:3] for row in rows[2:]] == [["gru", "1"], ["gru", "0"], ["rnn", "1"], ["rnn", "0"]]
    averaged = cells(command(main, "--average").out)
    assert averaged[0] == ["model.cell", "seeds", "decoder parameters", "CIDEr", "CIDEr ±"]
    assert averaged[2:] == [["gru", "2", "1.5 M", "60.00", "14.14"], ["rnn", "2", "1.5 M", "35.00", "7.07"]]


def test_bits_and_losses_are_averaged_too(command: Command) -> None:
    """A language model has no other scores; the loss on references is a score of a captioner."""
    for seed, bits in enumerate((1.25, 1.5)):
        for name, record in (
            ("text", {"task": "language_model", "bits_per_word": {"val": bits}, "run": {"tokens_per_second": 9}}),
            ("photos", {"CIDEr": bits, "loss": 2 * bits, "run": {"epochs": 2, "loss": 7.0}}),
        ):
            folder = Path(f"{name}/{seed}")
            write_run(folder, 0.5)
            (folder / "metrics.json").write_text(json.dumps(record))
            (folder / "config.yaml").write_text(f"seed: {seed}\n")
    text, photos = (cells(command(main, name, "--average").out) for name in ("text", "photos"))
    assert (text[0], text[2:]) == (["seeds", "decoder parameters", "bits per word, val"], [["2", "", "1.375"]])
    assert photos[0] == ["seeds", "decoder parameters", "held-out loss", "CIDEr", "CIDEr ±"]
    assert photos[2:] == [["2", "", "2.750", "137.50", "17.68"]]


def test_settings_that_only_some_models_have_are_not_averaged_away(command: Command) -> None:
    """The LSTM has no attention_dim; by it alone two of the other runs differ, which are not two seeds of one."""
    runs = [("name: lstm", 0, 0.1), ("name: lstm", 1, 0.2)]
    runs += [(f"name: attention, attention_dim: {size}", seed, size / 1000) for size in (256, 512) for seed in (0, 1)]
    runs += [("name: attention, attention_dim: 512", 2, 0.812)]
    for number, (model, seed, cider) in enumerate(runs):
        write_run(Path(f"runs/{number}"), cider)
        Path(f"runs/{number}/config.yaml").write_text(f"model: {{{model}}}\nseed: {seed}\n")
        os.utime(f"runs/{number}/metrics.json", (number, number))
    averaged = cells(command(main, "--average").out)
    assert averaged[0] == ["model.name", "model.attention_dim", "seeds", "decoder parameters", "CIDEr", "CIDEr ±"]
    assert averaged[2:] == [
        ["lstm", "", "2", "1.5 M", "15.00", "7.07"],
        ["attention", "256", "2", "1.5 M", "25.60", "0.00"],
        ["attention", "512", "3", "1.5 M", "61.20", "17.32"],
    ]


def test_runs_of_one_seed_or_from_other_weights_are_not_averaged_together(command: Command) -> None:
    """Two seeds are two, though one was run again; a run that began with another's weights is not one of them."""
    for number, (seed, start, cider) in enumerate(
        [(0, "null", 0.5), (1, "null", 0.1), (2, "a", 0.9), (1, "null", 0.7)]
    ):
        write_run(Path(f"runs/{number}"), cider)
        Path(f"runs/{number}/config.yaml").write_text(f"model: {{cell: gru}}\nseed: {seed}\ninit_from: {start}\n")
        os.utime(f"runs/{number}/metrics.json", (number, number))
    averaged = cells(command(main, "--average").out)
    assert averaged[0] == ["init_from", "seeds", "decoder parameters", "CIDEr", "CIDEr ±"]
    assert averaged[2:] == [["None", "2", "1.5 M", "60.00", "14.14"], ["a", "1", "1.5 M", "90.00", ""]]


@pytest.mark.parametrize(
    ("column", "best"),
    [
        ("CIDEr", "87.5"),
        ("Bad_ending", "1"),
        ("Implausible", "1"),
        ("loss", "1"),
        ("perplexity per word, val", "1"),
        ("words/s", "87.5"),
        ("decoder parameters", "1"),
        ("model.layers", "1"),
    ],
)
def test_every_column_has_its_direction(column: str, best: str) -> None:
    """A metric says whether lower is better; losses and settings ascend; rows without a value come last."""
    rows = [{"run": text or "none", column: text} for text in ("3", "", "87.5", "nan", "1")]
    found = [row["run"] for row in sorted_rows(rows, column)]
    assert found[0] == best
    assert found[1] == "3"
    assert found[3:] == ["nan", "none"]


def test_json_has_all_that_is_known(command: Command) -> None:
    for name, cider in (("bad", 0.1234567), ("good", 0.5)):
        write_run(Path("runs", name), cider)
        Path(f"runs/{name}/config.yaml").write_text(f"model: {{cell: {name}}}\nseed: 0\n")
    done = command(main, "--sort", "CIDEr", "--json")
    records = json.loads(done.out)
    assert [record["run"] for record in records] == ["good", "bad"]
    assert [record["settings"] for record in records] == [{"model.cell": "good"}, {"model.cell": "bad"}]
    assert records[1]["metrics"] == json.loads(Path("runs/bad/metrics.json").read_text())
    assert command(main, "--json", "--csv").code == 2
    Path("runs/bad/config.yaml").write_text("model: {cell: good}\nseed: 1\n")
    (averaged,) = json.loads(command(main, "--average", "--json").out)
    assert averaged["seeds"] == 2
    assert averaged["CIDEr"] == pytest.approx(31.17, abs=0.01)


def test_mistakes(command: Command) -> None:
    assert "is not a folder" in command(main).err
    Path("runs").mkdir()
    assert "There is no finished run" in command(main).err
    write_run(Path("runs/one"), 0.5)
    assert "do not differ in their seed" in command(main, "--average").err
    assert "Did you mean CIDEr" in command(main, "--sort", "Cider").err
    Path("runs/one/metrics.json").write_text("[")
    result = command(main)
    assert result.code == 2
    assert "runs/one/metrics.json cannot be read" in result.err
