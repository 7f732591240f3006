"""Which data set a command uses, and whether it is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from captioner.checkpoint.index import read_index
from captioner.cli.hydra_config import compose_train_settings
from captioner.cli.overrides import as_argument
from captioner.cli.run_config import change_settings, read_settings
from captioner.cli.runs_folder import CONFIG_FILE
from captioner.config import DataConfig, TokenizerConfig
from captioner.errors import ConfigError
from captioner.schema import data_settings, from_plain, to_plain

_NO_RUN = "is not in a run folder, whose config.yaml would name the data set"


def check_data_source(data: DataConfig) -> None:
    """DataError where the data set's folder is missing or not named. Reads no file and does not import torch."""
    if data.root is None or not Path(data.root).expanduser().is_dir():
        from captioner.data.datasets.registry import available_splits

        available_splits(data)  # the reader's message says which files it expects in the folder


def data_of_run(checkpoint: Path) -> DataConfig | None:
    """The data set that a checkpoint was trained on, from the run folder around it; None where there is no run."""
    return data_of_run_folder(checkpoint.parent.parent)


def data_of_run_folder(run_folder: Path) -> DataConfig | None:
    """The data set of the run in this folder; None where there is no run."""
    if not (run_folder / CONFIG_FILE).is_file():
        return None
    stored = read_settings(run_folder)
    return data_settings(stored["data"]) if "data" in stored else None


def given_data(data: DataConfig, overrides: Sequence[str], run_folder: Path, source: str) -> DataConfig | None:
    """The data set of a command that takes KEY=VALUE: the one that it names, else that of the run in this folder.

    data: as composed; overrides: the KEY=VALUE of the command line; source: what the run made, for the message. Without
    data=NAME, the settings of `data` change the run's: `data.limit=100` takes 100 of the run's images. None where there
    is no run either; ConfigError where they would then change a data set that nobody has named.
    """
    if _is_named(overrides):
        return data
    settings = [override.lstrip("+") for override in overrides if override.lstrip("+").startswith("data.")]
    stored = data_of_run_folder(run_folder)
    if stored is None:
        if settings:
            raise ConfigError(f"{settings[0]} needs data=NAME: {source} {_NO_RUN}.")
        return None
    values = {"data": to_plain(stored)}
    change_settings(values, settings)
    return data_settings(values["data"])


def training_limit(overrides: Sequence[str], run_folder: Path) -> int | None:
    """`data.limit` of the training in this folder, whatever the command says of the images that it evaluates.

    None where all images were used, or the command names a data set, or there is no run.
    """
    stored = None if _is_named(overrides) else data_of_run_folder(run_folder)
    return None if stored is None else stored.limit


def _is_named(overrides: Sequence[str]) -> bool:
    """Whether the command line names a data set."""
    return any(override.lstrip("+").startswith("data=") for override in overrides)


def tokenizer_of_run(run_folder: Path) -> TokenizerConfig | None:
    """The tokenizer of the captioner that was trained in this folder; None where there is no such run."""
    if read_index(run_folder) is None or not (run_folder / CONFIG_FILE).is_file():
        return None
    stored = read_settings(run_folder).get("tokenizer")
    return None if stored is None else from_plain(TokenizerConfig, stored, "tokenizer")


def chosen_data(checkpoint: Path, name: str | None, root: str | None, settings: Sequence[str]) -> DataConfig:
    """The data set of `--data`, `--data-root` and `--set`, by default that of the checkpoint's run, once it is there.

    checkpoint: the checkpoint's folder; settings: KEY=VALUE, each of a setting of `data`. ConfigError for one that does
    not exist, and where there is neither a name nor a run; DataError where the folder is missing.
    """
    for setting in settings:
        if not setting.startswith("data."):
            raise ConfigError(f"--set {setting}: expected a setting of the data set, such as data.limit=100.")
    if name is not None:
        place = [f"data.root={as_argument(root)}"] if root is not None else []
        data = compose_train_settings([f"data={name}", *place, *settings]).data
    else:
        stored = data_of_run(checkpoint)
        if stored is None:
            raise ConfigError(f"{checkpoint} {_NO_RUN}: give --data NAME and --data-root DIR.")
        values = {"data": to_plain(replace(stored, root=root) if root is not None else stored)}
        change_settings(values, settings)
        data = data_settings(values["data"])
    check_data_source(data)
    return data
