"""The checkpoints of a run: which is the latest, which the best, and which are kept.

They are under `checkpoints/`, each a folder `step-…`, and `index.json` there names those that count. A checkpoint
is written beside, flushed to disk and renamed; then the index is replaced; and only then is removed what it names no
more. So `latest` and `best` are whole whenever a run is killed. No clock is asked: order is what the index says.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from captioner.checkpoint.archive import is_archive_name
from captioner.checkpoint.pretrained import pretrained_folder, pretrained_names
from captioner.errors import CheckpointError, near_misses
from captioner.files import is_unfinished, write_json

INDEX_FILE = "index.json"
_STEP_FOLDER = re.compile(r"step-\d+(\.\d+)?")
_MEMBERS = ("config.json", "model.safetensors")  # either of them makes a folder a checkpoint


@dataclass(frozen=True)
class Index:
    """Names of folders: the latest checkpoint, the best, and the last ones that are kept, oldest first."""

    latest: str
    best: str
    last: list[str]


def read_index(run_folder: Path) -> Index | None:
    """What a run's index says; None where there is none yet, CheckpointError where it is none."""
    path = run_folder / "checkpoints" / INDEX_FILE
    if not path.is_file():
        return None
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}).") from error
    latest, best = (index.get(key) for key in ("latest", "best")) if isinstance(index, dict) else (None, None)
    last = index.get("last", [latest]) if isinstance(index, dict) else None  # of version 1 is the latest only
    names = [latest, best, *last] if isinstance(last, list) else []
    if not names or not all(isinstance(name, str) and _STEP_FOLDER.fullmatch(name) for name in names):
        raise CheckpointError(
            f"{path} was altered: it should name the latest and the best of the folders step-… beside it. "
            "Name one of them instead of the run."
        )
    return Index(str(latest), str(best), [str(name) for name in names[2:]])


def find_checkpoint(path: Path, which: str = "best") -> Path:
    """The checkpoint folder that `path` means: itself, or a run folder's "best" or "latest".

    The name of a captioner that comes with the package means that one, unless a folder of this name holds another.
    """
    if any((path / name).is_file() for name in _MEMBERS):
        return path
    if str(path) in pretrained_names() and not (path / "checkpoints" / INDEX_FILE).is_file():
        path = pretrained_folder(str(path))
    if path.is_file() and is_archive_name(path):
        raise CheckpointError(f"checkpoint={path} is an archive: unpack it, and name the folder that it holds.")
    if not path.is_dir():
        siblings = [str(p) for p in path.parent.glob("*")] if path.parent.is_dir() else []
        raise CheckpointError(
            f"checkpoint={path} is not a folder: expected a run folder such as runs/…, a folder in its checkpoints/, "
            f"or a captioner that comes with the package ({', '.join(pretrained_names()) or 'there is none'})."
            f"{near_misses(str(path), [*siblings, *pretrained_names()])}"
        )
    index = read_index(path)
    if index is None:
        raise CheckpointError(f"{path} holds no checkpoint: it has neither config.json nor checkpoints/{INDEX_FILE}.")
    return path / "checkpoints" / (index.best if which == "best" else index.latest)


def is_checkpoint_name(name: str) -> bool:
    """Is this what a run calls one of its checkpoints?"""
    return _STEP_FOLDER.fullmatch(name) is not None


def new_folder(run_folder: Path, step: int) -> tuple[Path, Path]:
    """Where the checkpoint of `step` will be, and the empty folder beside in which it is to be written.

    On resume a run that was killed while it saved may save a step again: `step-00000120.2`.
    """
    folder = run_folder / "checkpoints"
    folder.mkdir(exist_ok=True)  # the run folder itself must be there: it may have been removed under the run
    for rest in filter(is_unfinished, folder.iterdir()):  # of a kill
        shutil.rmtree(rest) if rest.is_dir() else rest.unlink()
    name, number = f"step-{step:08d}", 1
    while (folder / name).exists():
        number += 1
        name = f"step-{step:08d}.{number}"
    temporary = folder / f".{name}.tmp"
    temporary.mkdir()
    return folder / name, temporary


def enter(run_folder: Path, name: str, *, is_best: bool, keep_last: int) -> None:
    """Make a whole checkpoint the latest (and the best), and remove those that are not kept any more."""
    folder, before = run_folder / "checkpoints", read_index(run_folder)
    index = Index(
        latest=name,
        best=name if is_best or before is None else before.best,
        last=[*(before.last if before else []), name][-keep_last:],
    )
    write_json(folder / INDEX_FILE, asdict(index))
    for old in folder.glob("step-*"):
        if old.name not in {*index.last, index.best}:
            shutil.rmtree(old)
