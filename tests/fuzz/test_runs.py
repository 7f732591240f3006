"""Edited and damaged files of finished runs: the table of runs names the file that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from captioner.cli.runs import show_runs
from captioner.training.logs import RunLog, read_records
from tests.fuzz.harness import fuzz, harmless, replaced, shares
from tests.fuzz.mutations import mutated_json

METRICS = {
    "Bleu_4": 0.25,
    "CIDEr": 0.5,
    "intervals": {"CIDEr": [0.4, 0.6]},
    "unavailable": {},
    "signature": {"split": "val"},
    "run": {"parameters": 1_500_000, "words_per_second": 100, "epochs": 3, "loss": 2.5},
}
LANGUAGE_METRICS = {
    "task": "language_model",
    "bits_per_character": {"val": 2.0, "test": 2.1},
    "run": {"parameters": 10, "tokens_per_second": 5, "epochs": 1},
}


@shares(20, 120)
@pytest.mark.parametrize("metrics", [METRICS, LANGUAGE_METRICS], ids=["captioner", "language model"])
def test_metrics(metrics: dict[str, object], cases: int, tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name / "checkpoints").mkdir(parents=True)
        (tmp_path / name / "checkpoints/index.json").write_text("{}")
        (tmp_path / name / "metrics.json").write_text(json.dumps(metrics))
    path = tmp_path / "first" / "metrics.json"

    def check(content: bytes) -> None:
        with replaced(path, content):
            for sort in (None, "run", "epochs", "CIDEr" if metrics is METRICS else "bits per character, val"):
                with harmless(tmp_path):
                    table, _ = show_runs(tmp_path, sort, as_csv=sort is None)
                    assert "second" in table

    fuzz(cases, mutated_json(path.read_bytes()), check)


@shares(10, 80)
def test_log(cases: int, tmp_path: Path) -> None:
    with RunLog(tmp_path) as log:
        for step in range(3):
            log.record("train", step, loss=1.0)
            log.record("validation", step, CIDEr=0.5)
    path, table = tmp_path / "log.jsonl", tmp_path / "log.csv"
    first, rest = path.read_bytes().split(b"\n", 1)

    def check(line: bytes) -> None:
        with replaced(path, line + b"\n" + rest), replaced(table, table.read_bytes()):
            with harmless(tmp_path):
                assert len(read_records(tmp_path)) >= 5 or b"\n" in line
            with RunLog(tmp_path, step=2) as log:
                log.record("validation", 3, CIDEr=0.5)

    fuzz(cases, mutated_json(first), check)
