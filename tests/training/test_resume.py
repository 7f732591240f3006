"""A run that ended in any way resumes to the bytes of an uninterrupted one: weights, logs, scores, captions."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import safetensors.torch
import torch
from safetensors.torch import load_file

from captioner.checkpoint.checkpoint import load_checkpoint
from captioner.checkpoint.index import find_checkpoint, read_index
from captioner.config import CacheConfig, TrainConfig
from captioner.errors import CheckpointError, StorageError
from captioner.training import loop as training
from captioner.training.logs import read_records
from captioner.training.loop import train
from captioner.training.setup import prepare
from captioner.training.signals import Interrupted
from tests.tiny import tiny_config, with_trainer, write_tiny_data

CLOCKS = ("seconds", "words_per_second")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    folder = tmp_path_factory.mktemp("tiny")
    return replace(tiny_config(write_tiny_data(folder / "data")), cache=CacheConfig(directory=str(folder / "cache")))


def run(config: TrainConfig, folder: Path, *, resume: bool = False) -> Path:
    folder.mkdir(exist_ok=True)
    train(prepare(config, folder, resume=resume))
    return folder


def lasting(folder: Path) -> dict[str, Any]:
    """The results of a run, without measured times."""
    metrics = json.loads((folder / "metrics.json").read_text())
    del metrics["run"]["words_per_second"]
    said = [line.split("  ", 1)[1] for line in (folder / "log.txt").read_text().splitlines()]
    checkpoints = {path.name for path in (folder / "checkpoints").iterdir()}
    return {
        "metrics": metrics,
        "captions": (folder / "captions_val.json").read_bytes(),
        "records": [{k: v for k, v in record.items() if k not in CLOCKS} for record in read_records(folder)],
        "table": [line.rsplit(",", 1)[0] for line in (folder / "log.csv").read_text().splitlines()],
        "said": [line for line in said if not line.startswith(("Resuming", "Training"))],
        "checkpoints": {name.split(".")[0] for name in checkpoints},
    }


def assert_same(whole: Path, resumed: Path) -> None:
    assert lasting(whole) == lasting(resumed)
    for which in ("latest", "best"):
        ours, theirs = (load_file(find_checkpoint(folder, which) / "model.safetensors") for folder in (whole, resumed))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.fixture(scope="module")
def whole(config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The uninterrupted run."""
    return run(config, tmp_path_factory.mktemp("whole") / "run")


@contextmanager
def calling_before(owner: Any, name: str, number: int, act: Callable[[], None]) -> Iterator[None]:
    """Call `act` just before the call number `number` of a function."""
    before, calls = getattr(owner, name), 0

    def call(*arguments: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number:
            act()
        return before(*arguments, **more)

    setattr(owner, name, call)
    try:
        yield
    finally:
        setattr(owner, name, before)


@pytest.fixture
def usual_ctrl_c() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt, also where it is ignored because the tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def ask(number: int) -> Callable[[], None]:
    """Raise a signal in this thread: signals to the process may arrive late, in another thread, or merged."""
    return lambda: signal.raise_signal(number)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        pytest.param("generate_captions", 1, id="before the first validation"),
        pytest.param("score_captions", 1, id="inside the first validation"),
        pytest.param("score_captions", 2, id="inside the last validation"),
        pytest.param("save", 1, id="inside a save"),
        pytest.param("save", 2, id="inside the last save"),
        pytest.param("evaluate_model", 1, id="while the best is scored"),
        pytest.param("train_step", 8, id="at the last step"),
    ],
)
def test_stopped_at_any_point(config: TrainConfig, whole: Path, tmp_path: Path, name: str, call: int) -> None:
    folder = tmp_path / "run"
    with (
        pytest.raises(Interrupted) as stopped,
        calling_before(training, name, call, ask(signal.SIGTERM)),
    ):
        run(config, folder)
    assert stopped.value.signal_number == signal.SIGTERM
    assert not (folder / "metrics.json").exists()
    run(config, folder, resume=True)
    assert_same(whole, folder)


@pytest.mark.usefixtures("usual_ctrl_c")
def test_a_second_signal_ends_at_once_and_partial_files_are_ignored(
    config: TrainConfig, whole: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"

    def twice() -> None:
        ask(signal.SIGINT)()
        ask(signal.SIGINT)()

    with (
        pytest.raises(KeyboardInterrupt) as stopped,
        calling_before(torch, "save", 2, twice),  # the second checkpoint's trainer.pt
    ):
        run(config, folder)
    assert not isinstance(stopped.value, Interrupted)
    assert (folder / "checkpoints" / ".step-00000008.tmp").is_dir()
    index = read_index(folder)
    assert index is not None
    assert index.latest == "step-00000004"
    run(config, folder, resume=True)
    assert_same(whole, folder)


@pytest.mark.parametrize("moment", range(1, 40, 6))
def test_killed_at_any_moment(config: TrainConfig, whole: Path, tmp_path: Path, moment: int) -> None:
    """Killed before event number `moment` of those that change the disk."""
    folder = tmp_path / "run"
    folder.mkdir()
    prepared = prepare(config, folder)
    with pytest.raises(SystemExit), failing_from(moment, SystemExit()):
        train(prepared)
    run(config, folder, resume=True)
    assert_same(whole, folder)


@pytest.mark.parametrize("moment", range(3, 40, 6))
def test_a_disk_that_fails_at_any_moment(config: TrainConfig, whole: Path, tmp_path: Path, moment: int) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    prepared = prepare(config, folder)
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(StorageError, match=r"No space left on device.*Free some space"), failing_from(moment, error):
        train(prepared)
    if read_index(folder) is not None:
        load_checkpoint(folder, which="latest")
    run(config, folder, resume=True)
    assert_same(whole, folder)


@contextmanager
def failing_from(moment: int, error: BaseException) -> Iterator[None]:
    """From event number `moment` on, every write to the disk fails."""
    events = 0
    patches = [
        (safetensors.torch, "save_model"),
        (torch, "save"),
        (os, "fsync"),
        (Path, "mkdir"),
        (Path, "replace"),
        (shutil, "rmtree"),
    ]

    def watched(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            nonlocal events
            events += 1
            if events >= moment:
                raise error
            return function(*arguments, **more)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in patches:
            patch.setattr(owner, name, watched(getattr(owner, name)))
        yield
    assert events >= moment


def test_logged_after_the_checkpoint_and_killed_is_not_logged_twice(
    config: TrainConfig, whole: Path, tmp_path: Path
) -> None:
    """Stopped at the end of an epoch, resumed, and killed when the validation is logged but not saved yet."""
    folder = tmp_path / "run"
    with pytest.raises(Interrupted), calling_before(training, "train_step", 4, ask(signal.SIGINT)):
        run(config, folder)

    def kill() -> None:
        raise SystemExit

    with pytest.raises(SystemExit), calling_before(training, "save", 1, kill):
        run(config, folder, resume=True)
    assert read_records(folder)[-1]["kind"] == "validation"
    run(config, folder, resume=True)
    assert_same(whole, folder)


def test_the_last_and_the_best_checkpoints_are_kept(config: TrainConfig, tmp_path: Path) -> None:
    config = with_trainer(config, keep_last=2, max_epochs=4, patience=None)
    frozen = replace(config, optim=replace(config.optim, learning_rate=0.0))  # so that the first is the best
    folder = run(frozen, tmp_path / "run")
    index = read_index(folder)
    assert index is not None
    assert (index.best, index.last) == ("step-00000004", ["step-00000012", "step-00000016"])
    assert {path.name for path in (folder / "checkpoints").glob("step-*")} == {index.best, *index.last}


def test_resuming_a_finished_run_changes_nothing(config: TrainConfig, whole: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(whole, tmp_path / "run"))
    run(config, folder, resume=True)
    assert_same(whole, folder)


def test_a_run_is_not_resumed_to_an_end_before_its_last_step(config: TrainConfig, whole: Path, tmp_path: Path) -> None:
    """config.yaml would say that fewer epochs were trained than were."""
    folder = Path(shutil.copytree(whole, tmp_path / "run"))
    with pytest.raises(CheckpointError, match=r"run has done \d+ steps, and with these settings the run ends after 4"):
        run(with_trainer(config, max_steps=4), folder, resume=True)
    assert_same(whole, folder)


def test_an_early_stopped_run_continues_with_more_patience_only(
    config: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frozen = replace(config, optim=replace(config.optim, learning_rate=0.0))
    folder = run(with_trainer(frozen, max_epochs=9, patience=2), tmp_path / "run")
    run(with_trainer(frozen, max_epochs=9, patience=2), folder, resume=True)
    assert read_records(folder)[-1]["epoch"] == 3
    assert "raise trainer.patience=2 to train it further" in capsys.readouterr().err
    run(with_trainer(frozen, max_epochs=9, patience=4), folder, resume=True)
    assert read_records(folder)[-1]["epoch"] == 5


@contextmanager
def scoring(*validations: dict[str, float]) -> Iterator[None]:
    """Validations give these scores, one after the other."""
    given, before = iter(validations), training.score_captions
    training.score_captions = lambda *arguments, **more: SimpleNamespace(corpus=next(given))  # type: ignore[assignment,return-value]
    try:
        yield
    finally:
        training.score_captions = before


@pytest.mark.parametrize("logged", [True, False])
def test_another_monitored_score_is_compared_with_its_own_kind(
    config: TrainConfig, tmp_path: Path, logged: bool
) -> None:
    """BLEU-1 is higher than CIDEr here: nothing would ever be better, and the last validations would be in vain."""
    with scoring({"Bleu_1": 0.8, **({"CIDEr": 0.3} if logged else {})}, {"Bleu_1": 0.7, "CIDEr": 0.9}):
        folder = run(with_trainer(config, monitor="Bleu_1"), tmp_path / "run")
    first = find_checkpoint(folder, "best").name
    assert first == "step-00000004"
    with scoring({"CIDEr": 0.2}, {"CIDEr": 0.5}, {"CIDEr": 0.4}):
        resumed = prepare(with_trainer(config, monitor="CIDEr", max_epochs=5, patience=2), folder, resume=True)
        assert resumed.progress.best_score == (0.3 if logged else -math.inf)
        (note,) = [line for line in resumed.advice if "was chosen by Bleu_1" in line]
        assert ("its CIDEr of 0.3000 is to be exceeded" in note) == logged
        train(resumed)
    assert find_checkpoint(folder, "best").name == "step-00000016"
    assert json.loads((folder / "metrics.json").read_text())["run"]["best_step"] == 16


def test_scores_of_other_validation_data_are_not_compared(config: TrainConfig, tmp_path: Path) -> None:
    data = Path(shutil.copytree(str(config.data.root), tmp_path / "data"))
    config = replace(config, data=replace(config.data, root=str(data)))
    with scoring({"CIDEr": 0.9}, {"CIDEr": 0.8}):
        folder = run(config, tmp_path / "run")
    rows = (data / "captions.csv").read_text().splitlines()
    last = max(number for number, row in enumerate(rows) if row.endswith(",val"))
    (data / "captions.csv").write_text("\n".join([*rows[:last], *rows[last + 1 :]]) + "\n")
    config = replace(with_trainer(config, max_epochs=4), resume=str(folder), resume_despite=["data"])
    with scoring({"CIDEr": 0.1}, {"CIDEr": 0.2}):
        run(config, folder, resume=True)
    assert find_checkpoint(folder, "best").name == "step-00000016"


def test_a_run_folder_that_is_removed_during_the_run(config: TrainConfig, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with (
        pytest.raises(StorageError, match="run is gone: it was removed or renamed"),
        calling_before(training, "train_step", 6, lambda: shutil.rmtree(folder)),
    ):
        run(config, folder)
    assert not folder.exists()


def test_a_renamed_run_folder_is_resumed_there(config: TrainConfig, whole: Path, tmp_path: Path) -> None:
    folder, renamed = tmp_path / "run", tmp_path / "renamed"
    with (
        pytest.raises(StorageError, match="its checkpoints are in the renamed folder"),
        calling_before(training, "train_step", 6, lambda: folder.rename(renamed)),
    ):
        run(config, folder)
    run(config, renamed, resume=True)
    assert_same(whole, renamed)


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files")
def test_real_write_errors(config: TrainConfig, whole: Path, tmp_path: Path) -> None:
    """In safetensors and torch, which have exceptions of their own."""
    import resource

    for limit in (1 << 20, 4096):
        folder = tmp_path / f"run-{limit}"
        folder.mkdir()
        prepared = prepare(config, folder)
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        try:
            with pytest.raises(StorageError, match=r"step-00000004 could not be written \(File too large\)"):
                train(prepared)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert list((folder / "checkpoints").iterdir()) == []
        run(config, folder, resume=True)
        assert_same(whole, folder)
