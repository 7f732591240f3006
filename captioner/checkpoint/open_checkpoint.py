"""Load a checkpoint from a folder or an archive, with the name of the data set that it was trained on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
import yaml

from captioner.checkpoint.archive import is_archive_name, unpacked
from captioner.checkpoint.average import load_average
from captioner.checkpoint.checkpoint import LoadedCheckpoint


def open_checkpoint(
    path: Path, device: torch.device, average: str | None = None
) -> tuple[LoadedCheckpoint, str | None]:
    """The checkpoint, and the name of the data set that it was trained on, None where that is not known.

    path: a run folder, a checkpoint folder or an archive of `captioner export`. average: of a run,
    "bestN" for the mean weights of its N best checkpoints. Raises CheckpointError.
    """
    if path.is_file() and is_archive_name(path):
        with unpacked(path) as folder:
            loaded = load_average(folder, average, device)
            return replace(loaded, path=path), _training_data(loaded.path)
    loaded = load_average(path, average, device)
    return loaded, _training_data(loaded.path)


def _training_data(checkpoint: Path) -> str | None:
    """The data set that a run was trained on, from its config.yaml; None where there is none."""
    path = checkpoint.parent.parent / "config.yaml"
    if not path.is_file():
        return None
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError):
        return f"unknown ({path} cannot be read)"
    data = settings.get("data") if isinstance(settings, dict) else None
    return str(data["name"]) if isinstance(data, dict) and "name" in data else None
