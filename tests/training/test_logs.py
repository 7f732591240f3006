"""The logs of a run that was killed and resumed equal those of an uninterrupted run."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from captioner.training.logs import RunLog, checked_log_sizes, read_records

FILES = ("log.txt", "log.jsonl", "log.csv")


def log_steps(log: RunLog, first: int, last: int) -> None:
    for step in range(first, last + 1):
        log.record("train", step, loss=1.0 / step)
        if step % 2 == 0:
            log.record("validation", step, CIDEr=step / 10, seconds=0.5)
            log.info(f"step {step}")


def lines(folder: Path) -> list[str]:
    """The lines of log.txt without their times."""
    return [line.split("  ", 1)[1] for line in (folder / "log.txt").read_text().splitlines()]


def test_a_resumed_log_is_truncated_to_its_stored_size(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    with RunLog(whole) as log:
        log_steps(log, 1, 6)
    with RunLog(killed) as log:
        log_steps(log, 1, 4)
        sizes = log.sizes()
        log.record("train", 4, loss="of the same step, but after the mark")
        log_steps(log, 5, 5)
    with (killed / "log.jsonl").open("a") as file:
        file.write('{"kind": "tra')  # cut off by a kill
    with RunLog(killed, sizes=sizes, step=4) as log:
        log_steps(log, 5, 6)
    assert read_records(killed) == read_records(whole)
    assert lines(killed) == lines(whole)
    assert (killed / "log.csv").read_bytes() == (whole / "log.csv").read_bytes()


def test_the_table_has_a_row_per_validation(tmp_path: Path) -> None:
    with RunLog(tmp_path) as log:
        log_steps(log, 1, 2)
        log.record("validation", 4, CIDEr=0.5, METEOR=0.25)
    with (tmp_path / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows == [
        {"step": "2", "CIDEr": "0.2", "seconds": "0.5", "METEOR": ""},
        {"step": "4", "CIDEr": "0.5", "seconds": "", "METEOR": "0.25"},
    ]


def test_a_run_that_starts_again_removes_its_logs(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    with RunLog(tmp_path, tensorboard=True) as log:
        log_steps(log, 1, 3)
    with RunLog(tmp_path, sizes={}, step=0, tensorboard=True) as log:
        assert {path.name for path in tmp_path.iterdir()} == {"log.txt", "log.jsonl", "tensorboard"}
        log.record("train", 1, loss=1.0)
    assert [record["step"] for record in read_records(tmp_path)] == [1]
    assert [(step, value) for _, step, value in scalars(tmp_path)] == [(1, 1.0)]


def test_without_sizes_records_are_removed_by_step(tmp_path: Path) -> None:
    """As for checkpoints of format 1."""
    with RunLog(tmp_path) as log:
        log_steps(log, 1, 5)
    with RunLog(tmp_path, step=3) as log:
        log.record("train", 4, loss=0.5)
    assert [record["step"] for record in read_records(tmp_path) if record["kind"] == "train"] == [1, 2, 3, 4]
    assert (tmp_path / "log.csv").read_text().count("\n") == 2


def test_a_file_that_lost_its_end_is_not_extended(tmp_path: Path) -> None:
    with RunLog(tmp_path) as log:
        log_steps(log, 1, 3)
        sizes = log.sizes()
    content = (tmp_path / "log.jsonl").read_bytes()
    (tmp_path / "log.jsonl").write_bytes(content[:-5])
    with RunLog(tmp_path, sizes=sizes, step=3) as log:
        log.record("train", 4, loss=0.5)
        log.record("train", 5, loss=0.5)
    assert b"\0" not in (tmp_path / "log.jsonl").read_bytes()
    assert [record["step"] for record in read_records(tmp_path) if record["kind"] == "train"] == [1, 2, 4, 5]


@pytest.mark.parametrize("clock", [0.0, 4e9])
def test_the_clock_has_no_effect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: float) -> None:
    """The clock is set back to 1970, or far ahead, while the run is interrupted."""
    pytest.importorskip("tensorboard")
    with RunLog(tmp_path, tensorboard=True) as log:
        log_steps(log, 1, 3)
        sizes = log.sizes()
        log_steps(log, 4, 5)
    monkeypatch.setattr("time.time", lambda: clock)
    with RunLog(tmp_path, sizes=sizes, step=3, tensorboard=True) as log:
        log_steps(log, 4, 6)
    assert [record["step"] for record in read_records(tmp_path) if record["kind"] == "train"] == [1, 2, 3, 4, 5, 6]
    first, second = sorted((tmp_path / "tensorboard").iterdir())
    assert (steps(first, "train/loss"), steps(second, "train/loss")) == ([1, 2, 3], [4, 5, 6])


def test_tensorboard_discards_repeated_steps(tmp_path: Path) -> None:
    """Also a TensorBoard that is open and has read them."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with RunLog(tmp_path, tensorboard=True) as log:
        log_steps(log, 1, 3)
        sizes = log.sizes()
        log_steps(log, 4, 5)
    viewer = EventAccumulator(str(tmp_path / "tensorboard"))
    viewer.Reload()
    assert [event.step for event in viewer.Scalars("train/loss")] == [1, 2, 3, 4, 5]
    with RunLog(tmp_path, sizes=sizes, step=3, tensorboard=True) as log:
        log_steps(log, 4, 6)
    viewer.Reload()
    assert [event.step for event in viewer.Scalars("train/loss")] == [1, 2, 3, 4, 5, 6]


def scalars(folder: Path) -> list[tuple[str, int, float]]:
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.util.tensor_util import make_ndarray

    return [
        (value.tag, event.step, float(make_ndarray(value.tensor)))
        for path in sorted((folder / "tensorboard").iterdir())
        for event in EventFileLoader(str(path)).Load()
        for value in event.summary.value
    ]


def steps(path: Path, tag: str) -> list[int]:
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    events = EventFileLoader(str(path)).Load()
    return [event.step for event in events for value in event.summary.value if value.tag == tag]


@pytest.mark.parametrize("stored", [[], 7, {"log.txt": -1}, {"log.txt": 1.5}, {"log.txt": "1"}, {"log.txt": True}])
def test_invalid_log_sizes(stored: object) -> None:
    with pytest.raises(ValueError, match="expected the size of each log file"):
        checked_log_sizes(stored)


def test_log_sizes_of_other_files_are_ignored(tmp_path: Path) -> None:
    """Names in a checkpoint are not opened; only the run's own log files are truncated."""
    other = tmp_path / "other"
    other.write_text("precious")
    run = tmp_path / "run"
    run.mkdir()
    with RunLog(run, sizes={"../other": 0, str(other): 0}, step=0):
        pass
    assert other.read_text() == "precious"


def test_records_are_lines_of_json(tmp_path: Path) -> None:
    with RunLog(tmp_path) as log:
        log.record("sample", 3, text="ein Hund\nläuft\u2028weg")
    expected = {"kind": "sample", "step": 3, "text": "ein Hund\nläuft\u2028weg"}
    assert [json.loads(line) for line in (tmp_path / "log.jsonl").read_bytes().splitlines()] == [expected]
    assert read_records(tmp_path) == [expected]


def test_infinite_values_and_nan_become_null(tmp_path: Path) -> None:
    with RunLog(tmp_path) as log:
        log.record("train", 1, loss=1.5, gradient_norm=float("inf"), learning_rate=float("nan"), name="x")
    (line,) = (tmp_path / "log.jsonl").read_text().splitlines()
    assert json.loads(line, parse_constant=pytest.fail) == {
        "kind": "train",
        "step": 1,
        "loss": 1.5,
        "gradient_norm": None,
        "learning_rate": None,
        "name": "x",
    }
