"""The bundled captioners: `captioner/pretrained/NAME`, each a run folder that `captioner export` wrote."""

from __future__ import annotations

from pathlib import Path

from captioner.errors import CheckpointError, near_misses

FOLDER = Path(__file__).resolve().parent.parent / "pretrained"
DEFAULT = "flickr8k"


def pretrained_names() -> list[str]:
    """The names of the bundled captioners."""
    return sorted(path.parent.parent.name for path in FOLDER.glob("*/checkpoints/index.json"))


def pretrained_folder(name: str) -> Path:
    """The run folder of a bundled captioner; CheckpointError lists those that exist."""
    names = pretrained_names()
    if name not in names:
        available = f"Bundled: {', '.join(names)}." if names else "This installation has no bundled captioner."
        raise CheckpointError(
            f"{name} is not a bundled captioner, a folder or an archive.{near_misses(name, names)} {available}"
        )
    return FOLDER / name
