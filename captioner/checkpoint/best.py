"""Which checkpoints of a run `average=bestN` averages: the N with the highest monitored scores."""

from __future__ import annotations

import re
from pathlib import Path

from captioner.checkpoint.index import INDEX_FILE, read_index
from captioner.errors import CheckpointError, ConfigError

_BEST = re.compile(r"best([1-9]\d{0,5})")


def best_count(average: str) -> int:
    """N of "bestN"; ConfigError for anything else."""
    match = _BEST.fullmatch(average)
    if match is None:
        raise ConfigError(
            f"average={average}: expected bestN, such as best3 for the mean weights of a run's 3 best checkpoints."
        )
    return int(match[1])


def find_best(run_folder: Path, average: str) -> list[Path]:
    """The checkpoints of a run that `average` ("best3") names, best first; of equal scores the earlier one is better.

    CheckpointError where `run_folder` is no run, its index has no scores, or it has too few checkpoints with one.
    ConfigError for an `average` that is not understood.
    """
    count = best_count(average)
    index = read_index(run_folder)
    if index is None:
        raise CheckpointError(
            f"average={average} takes the checkpoints of a run, and {run_folder} is not a run folder with "
            f"checkpoints/{INDEX_FILE}."
        )
    train = f"train with trainer.keep_best={count}, which also works with resume={run_folder}"
    if not index.scores:
        raise CheckpointError(
            f"average={average}: {run_folder / 'checkpoints' / INDEX_FILE} has no scores of its checkpoints. An export "
            f"has none, nor a run of an earlier captioner: {train}."
        )
    names = index.ranking()
    if len(names) < count:
        kept = "1 checkpoint" if len(names) == 1 else f"{len(names)} checkpoints"
        raise CheckpointError(
            f"average={average}: {run_folder} has kept {kept} with a score: give average=best{len(names)}, or {train}."
        )
    return [run_folder / "checkpoints" / name for name in names[:count]]
