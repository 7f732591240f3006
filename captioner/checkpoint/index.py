"""The index of a run's checkpoints: which is the latest, which is the best, and which are kept.

Each checkpoint is a folder `checkpoints/step-…`, and `checkpoints/index.json` names the valid ones. A checkpoint is
written to a temporary folder, flushed to disk and renamed; then the index is replaced; then the folders that it no
longer names are removed. So `latest` and `best` are complete whenever a run is killed. The order of checkpoints is
that of the index, not of file times.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from captioner.checkpoint.archive import is_archive_name
from captioner.checkpoint.pretrained import pretrained_folder, pretrained_names
from captioner.errors import CheckpointError, near_misses
from captioner.files import is_unfinished, write_json

INDEX_FILE = "index.json"
_STEP_FOLDER = re.compile(r"step-\d+(\.\d+)?")
_MEMBERS = ("config.json", "model.safetensors")  # a folder with either of them is a checkpoint


@dataclass(frozen=True)
class Index:
    """Names of folders: the latest checkpoint, the best, and the last ones that are kept, oldest first.

    scores: of the kept checkpoints that a validation has scored, in the order of the run; higher is better. An index of
    an earlier release, or of an export, has none. monitor: what the scores are, such as CIDEr.
    """

    latest: str
    best: str
    last: list[str]
    scores: dict[str, float] = field(default_factory=dict)
    monitor: str | None = None

    def ranking(self) -> list[str]:
        """The checkpoints that have a score, best first; of equal scores the earlier one is better."""
        return sorted(self.scores, key=lambda name: -self.scores[name])


@dataclass(frozen=True)
class Score:
    """What a validation says of a checkpoint: its score, by the name of the monitored metric; higher is better.

    best: the highest score of the run so far, this one included.
    """

    monitor: str
    value: float
    best: float


def read_index(run_folder: Path) -> Index | None:
    """The index of a run; None if there is none yet, CheckpointError if it is unreadable or altered."""
    path = run_folder / "checkpoints" / INDEX_FILE
    if not path.is_file():
        return None
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}).") from error
    latest, best = (index.get(key) for key in ("latest", "best")) if isinstance(index, dict) else (None, None)
    last = index.get("last", [latest]) if isinstance(index, dict) else None  # format version 1 has only the latest
    names = [latest, best, *last] if isinstance(last, list) else []
    if not names or not all(isinstance(name, str) and _STEP_FOLDER.fullmatch(name) for name in names):
        raise CheckpointError(
            f"{path} was altered: it should name the latest and the best of the folders step-… beside it. "
            "Name one of them instead of the run."
        )
    scores, monitor = index.get("scores", {}), index.get("monitor")
    if not _are_scores(scores) or not isinstance(monitor, str | None):
        raise CheckpointError(
            f"{path} was altered: its scores should be numbers by the names of the folders step-… beside it. "
            "Name one of them instead of the run."
        )
    return Index(str(latest), str(best), [str(name) for name in names[2:]], scores, monitor)


def _are_scores(scores: Any) -> bool:
    return isinstance(scores, dict) and all(
        _STEP_FOLDER.fullmatch(name) and isinstance(value, int | float) and not isinstance(value, bool)
        for name, value in scores.items()
    )


def find_checkpoint(path: Path, which: str = "best") -> Path:
    """The checkpoint folder of `path`: itself, or the "best" or "latest" (`which`) of a run folder.

    The name of a bundled captioner is accepted too, unless a run folder has this name. Raises CheckpointError.
    """
    if any((path / name).is_file() for name in _MEMBERS):
        return path
    if str(path) in pretrained_names() and not (path / "checkpoints" / INDEX_FILE).is_file():
        path = pretrained_folder(str(path))
    if path.is_file() and is_archive_name(path):
        raise CheckpointError(f"checkpoint={path} is an archive: unpack it, and give the folder that it contains.")
    if not path.is_dir():
        siblings = [str(p) for p in path.parent.glob("*")] if path.parent.is_dir() else []
        raise CheckpointError(
            f"checkpoint={path} is not a folder: expected a run folder such as runs/…, a folder in its checkpoints/, "
            f"or a bundled captioner ({', '.join(pretrained_names()) or 'none is installed'})."
            f"{near_misses(str(path), [*siblings, *pretrained_names()])}"
        )
    index = read_index(path)
    if index is None:
        raise CheckpointError(
            f"{path} contains no checkpoint: it has neither config.json nor checkpoints/{INDEX_FILE}."
        )
    return path / "checkpoints" / (index.best if which == "best" else index.latest)


def is_checkpoint_name(name: str) -> bool:
    """Whether `name` is the name of a run's checkpoint folder."""
    return _STEP_FOLDER.fullmatch(name) is not None


def step_of(name: str) -> int | None:
    """The step of a checkpoint's folder name, such as 120 of `step-00000120.2`; None for another name."""
    return int(name.removeprefix("step-").split(".")[0]) if is_checkpoint_name(name) else None


def new_folder(run_folder: Path, step: int) -> tuple[Path, Path]:
    """The folder of the checkpoint of `step`, and an empty temporary folder beside it to write it to.

    A resumed run that was killed while saving may save a step again: `step-00000120.2`.
    """
    folder = run_folder / "checkpoints"
    folder.mkdir(exist_ok=True)  # not its parents: the run folder may have been removed during the run
    for rest in filter(is_unfinished, folder.iterdir()):  # left by a killed process
        shutil.rmtree(rest) if rest.is_dir() else rest.unlink()
    name, number = f"step-{step:08d}", 1
    while (folder / name).exists():
        number += 1
        name = f"step-{step:08d}.{number}"
    temporary = folder / f".{name}.tmp"
    temporary.mkdir()
    return folder / name, temporary


def add_to_index(
    run_folder: Path, name: str, *, is_best: bool, keep_last: int, keep_best: int = 1, score: Score | None = None
) -> None:
    """Enter a complete checkpoint as the latest (and the best if `is_best`), and remove those no longer kept.

    score: what a validation said of it, if there was one. Scores of another metric, from before a resume that changed
    `trainer.monitor`, cannot be compared with it and are forgotten.
    """
    folder, before = run_folder / "checkpoints", read_index(run_folder)
    best = name if is_best or before is None else before.best
    last = [*(before.last if before else []), name][-keep_last:]
    scores, monitor = (before.scores, before.monitor) if before else ({}, None)
    if score is not None and math.isfinite(score.value):
        if monitor not in (None, score.monitor):
            scores = {}
        elif best != name:  # a run of an earlier release knows the score of its best checkpoint, and its index does not
            scores = {best: score.best, **scores}
        scores, monitor = {**scores, name: score.value}, score.monitor
    kept = {*last, best, *Index(name, best, last, scores).ranking()[:keep_best]}
    index = Index(name, best, last, {key: value for key, value in scores.items() if key in kept}, monitor)
    write_json(folder / INDEX_FILE, asdict(index))
    for old in folder.glob("step-*"):
        if old.name not in kept:
            shutil.rmtree(old)
