"""Which data set a command uses, and whether it is there."""

from __future__ import annotations

from pathlib import Path

from captioner.cli.run_config import read_settings
from captioner.cli.runs_folder import CONFIG_FILE
from captioner.config import DataConfig
from captioner.data.datasets.registry import available_splits
from captioner.schema import data_settings


def check_data_source(data: DataConfig) -> None:
    """DataError where the data set's folder is missing or not named. Reads no file and does not import torch."""
    if data.root is None or not Path(data.root).expanduser().is_dir():
        available_splits(data)  # the reader's message says which files it expects in the folder


def data_of_run(checkpoint: Path) -> DataConfig | None:
    """The data set that a checkpoint was trained on, from the run folder around it; None where there is no run."""
    run_folder = checkpoint.parent.parent
    if not (run_folder / CONFIG_FILE).is_file():
        return None
    stored = read_settings(run_folder)
    return data_settings(stored["data"]) if "data" in stored else None
