"""python -m captioner calibrate: what it prints and stores, and what stops it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from captioner.analysis import calibrate
from captioner.checkpoint.checkpoint import load_checkpoint
from captioner.checkpoint.index import find_checkpoint
from captioner.cli.calibrate import main
from tests.cli.conftest import Command, SmallRun


@pytest.fixture
def run(small_run: SmallRun) -> Path:
    return small_run("runs/first")


def test_it_stores_what_it_prints(command: Command, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "LEAST_IMAGES", 8)
    # A model that was trained for one epoch has no good caption: every other one is called good.
    monkeypatch.setattr(
        calibrate, "judge_captions", lambda generated: (0.5, np.arange(len(generated.captions)) % 2 == 0)
    )
    result = command(main, "--checkpoint", "runs/first", "--split", "train", "--json")
    assert result.code == 0, result.err
    printed = json.loads(result.out)
    stored = load_checkpoint(find_checkpoint(run)).calibration
    assert stored is not None
    assert printed["images"] == stored.record.images == 16
    assert printed["calibration_error"] == stored.record.calibration_error
    assert sum(one["captions"] for one in printed["reliability"]) == 16


def test_too_few_images_are_one_message_and_change_nothing(command: Command, run: Path) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    result = command(main, "--checkpoint", "runs/first")
    assert result.code == 2
    assert "A calibration needs 100 images or more, and this split has" in result.err
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
