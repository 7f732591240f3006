"""Run folders: which runs are finished, their metrics, and which captioner was finished last."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from captioner.checkpoint.index import INDEX_FILE
from captioner.cli.owner_lock import LOCK_FILE
from captioner.errors import CheckpointError, ConfigError, DataError
from captioner.files import is_unfinished, write_atomically

RUNS_FOLDER = Path("runs")
CONFIG_FILE, METRICS_FILE = "config.yaml", "metrics.json"
NEWEST_FILE = ".newest"  # in the folder of all runs: names the run finished last, independent of the clock


def finished_runs(folder: Path, task: str | None = None) -> list[Path]:
    """The finished runs (of `task`) in `folder` and in its sweeps, oldest first."""
    found = [run for run in _runs(folder, METRICS_FILE) if (run / "checkpoints" / INDEX_FILE).is_file()]
    if task is not None:
        found = [run for run in found if read_metrics(run).get("task", "captioning") == task]
    return sorted(found, key=lambda run: ((run / METRICS_FILE).stat().st_mtime, run))


def unfinished_runs(folder: Path) -> list[Path]:
    """The runs in `folder` and in its sweeps that can be resumed, by name."""
    return sorted(run for run in _runs(folder, CONFIG_FILE) if not (run / METRICS_FILE).is_file())


def _runs(folder: Path, file: str) -> list[Path]:
    """The folders below `folder`, two levels deep, that contain a file of this name."""
    return [path.parent for pattern in (file, f"*/{file}", f"*/*/{file}") for path in folder.glob(pattern)]


def note_newest(run: Path, runs: Path) -> None:
    """Record in `runs` that `run` was finished last; does nothing where `run` is not below `runs`."""
    if run.resolve().is_relative_to(runs.resolve()):
        write_atomically(runs / NEWEST_FILE, str(run.resolve().relative_to(runs.resolve())).encode())


def newest_run(runs: Path) -> Path:
    """The captioner that was finished last, sweeps included; CheckpointError where there is none."""
    finished = finished_runs(runs, "captioning")
    if not finished:
        raise CheckpointError(
            f"There is no finished run in {runs.absolute()} yet: train one with `python train.py model=attention` "
            "(some minutes on a laptop), or name one with --checkpoint."
        )
    noted = runs / NEWEST_FILE
    newest = runs / noted.read_bytes().decode(errors="replace").strip("\0") if noted.is_file() else None
    return newest if newest in finished else finished[-1]


def unnamed_checkpoint(*, newest: bool) -> tuple[str | Path, str]:
    """The checkpoint to use where none is named, and a notice that names it.

    newest: the run in runs/ that was finished last. Otherwise the captioner that comes with the package: a short trial
    run in runs/ must not silently take its place. CheckpointError where there is no such checkpoint.
    """
    from captioner.checkpoint.pretrained import DEFAULT, pretrained_names

    if newest or DEFAULT not in pretrained_names():
        run = newest_run(RUNS_FOLDER)
        return run, f"Using {run}, the newest finished run"
    own = " (--newest for the newest of your own runs)" if finished_runs(RUNS_FOLDER, "captioning") else ""
    return DEFAULT, f"Using {DEFAULT}, which comes with captioner{own}"


def read_metrics(run: Path) -> dict[str, Any]:
    """Read a run's metrics.json; DataError where it cannot be read."""
    path = run / METRICS_FILE
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read ({error}).") from error
    if not isinstance(record, dict):
        raise DataError(f"{path} should be a JSON object.")
    return record


def check_unused_folder(folder: Path, hint: str) -> None:
    """ConfigError where a run folder contains anything, for a run is never overwritten.

    hint: what else the person may have wanted, as the beginning of the message's last clause.
    """
    there = sorted(path.name for path in folder.iterdir() if not is_unfinished(path) and path.name != LOCK_FILE)
    if there:
        raise ConfigError(
            f"{shown(folder)} is not empty (it has {', '.join(there[:4])}{' …' if len(there) > 4 else ''}), and an "
            f"existing run is never overwritten: {hint}name another hydra.run.dir."
        )


def remove_if_empty(folder: Path) -> None:
    """Remove the run folder that Hydra makes before the settings are checked, where nothing was written to it."""
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def shown(folder: Path) -> str:
    """The folder as a person would type it here."""
    here = Path.cwd()
    return str(folder.relative_to(here)) if folder.is_relative_to(here) else str(folder)
