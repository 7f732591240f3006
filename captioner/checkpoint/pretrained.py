"""Trained captioners that come with the package: `captioner/pretrained/NAME`, each a run folder that `export` wrote."""

from __future__ import annotations

from pathlib import Path

from captioner.errors import CheckpointError, near_misses

FOLDER = Path(__file__).resolve().parent.parent / "pretrained"
DEFAULT = "flickr8k"


def pretrained_names() -> list[str]:
    """What there is."""
    return sorted(path.parent.parent.name for path in FOLDER.glob("*/checkpoints/index.json"))


def pretrained_folder(name: str) -> Path:
    """The run folder of a captioner that comes with the package; CheckpointError lists what there is."""
    names = pretrained_names()
    if name not in names:
        there = f"There is: {', '.join(names)}." if names else "This installation has none."
        raise CheckpointError(
            f"{name} is no pretrained captioner, and no folder or archive.{near_misses(name, names)} {there}"
        )
    return FOLDER / name
