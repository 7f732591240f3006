"""Compose settings with Hydra: from conf/ and the command line to the dataclasses of `captioner.config`."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import hydra
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf, SCMode

from captioner.cli.choices import CONF, NAMES, REGISTRIES, SETTINGS
from captioner.cli.hydra_versions import VERSION_BASE, composed_once, register_resolver, store_config
from captioner.cli.overrides import check_overrides
from captioner.cli.runs_folder import RUNS_FOLDER
from captioner.config import TASKS, EvaluateConfig, LanguageModelConfig, TrainConfig
from captioner.distributed.ranks import first_value_in_job
from captioner.errors import ConfigError, choose
from captioner.schema import command_settings

PRIMARY = {"captioning": "train", "language_model": "language_model"}
"""The file of conf/ that each task of train.py starts from."""

_registered: list[object] = []
"""What `register` has told Hydra last in this process, and the store in which Hydra keeps it."""


def register() -> None:
    """Tell Hydra the types of all settings and the interpolation of run folders. Called before Hydra starts.

    Each decoder and data set gets a schema, `model/<name>_schema`. The items that other packages add to the registries
    become choices, `model=<name>`. A decoder or data set that cannot be imported is left out (see `why_missing`).
    Nothing is done where Hydra knows it already and the registries have not changed.
    """
    additions = [(group, registry.additions()) for group, registry in (*SETTINGS.items(), *REGISTRIES.items())]
    known = [additions, *(registry.loadable() for registry in SETTINGS.values())]
    store = ConfigStore.instance().repo
    if _registered and _registered[0] is store and _registered[1:] == known:
        return
    _registered[:] = [store, *known]
    store_config("train_schema", _schema(TrainConfig, "model", "data"))
    store_config("language_model_schema", _schema(LanguageModelConfig))
    store_config("evaluate_schema", _schema(EvaluateConfig, "data"))
    for group, registry in SETTINGS.items():
        for name, settings in registry.loadable().items():
            store_config(f"{name}_schema", settings, group)
            if _is_new(group, name):
                store_config(name, settings, group)
    for group, (_, package, key) in NAMES.items():
        for name in filter(partial(_is_new, group), REGISTRIES[group]):
            store_config(name, {key: name}, group, package)
    register_resolver("run_folder", run_folder_name, use_cache=True)


def run_hydra(job: Callable[[DictConfig], None], primary: str, arguments: Sequence[str]) -> None:
    """Compose the settings of the command line with Hydra, from conf/`primary`.yaml, and call `job` with each run's.

    arguments: the command line, which `sys.argv` has too.
    """
    with nullcontext() if _may_set_mode(primary, arguments) else composed_once():
        hydra.main(config_path=str(CONF), config_name=primary, **VERSION_BASE)(job)()


def _may_set_mode(primary: str, arguments: Sequence[str]) -> bool:
    """Whether an argument or a file that it chooses may set `hydra.mode`, or name another folder of settings."""
    files = [CONF / f"{primary}.yaml"]
    for argument in arguments:
        if "hydra.mode" in argument or argument.startswith(("-c", "--config")):
            return True
        group, _, names = argument.lstrip("+").partition("=")
        files += [CONF / group / f"{name}.yaml" for name in names.split(",")]
    return any(re.search(r"^\s*mode:", file.read_text("utf-8"), re.MULTILINE) for file in files if file.is_file())


def _is_new(group: str, name: str) -> bool:
    """Is it a choice of another package, which conf/ has no file for?"""
    return name in REGISTRIES[group].additions() and not (CONF / group / f"{name}.yaml").is_file()


def _schema(config: type, *chosen: str) -> DictConfig:
    """The types of all settings of a command; the groups `chosen` start empty, for they hold one of several types."""
    schema: DictConfig = OmegaConf.structured(config)
    for group in chosen:
        schema[group] = MISSING
    return schema


def run_folder_name(resume: str | None, *names: str | None) -> str:
    """`runs/<date>_<time>_<names>`, or the folder of the run that is resumed; the same on all ranks of a job."""
    if resume:
        return resume
    name = f"{time.strftime('%Y-%m-%d_%H-%M-%S')}_{'_'.join(name for name in names if name)}"
    others = itertools.count(2)  # runs that started in the same second, or before the clock was set back
    free, folder = name, RUNS_FOLDER
    while (folder / free).exists():
        free = f"{name}.{next(others)}"
    return str(folder / first_value_in_job("started", free))


def training_settings(composed: DictConfig) -> TrainConfig | LanguageModelConfig:
    """Convert what Hydra composed for `train.py`; ConfigError for a value that cannot work."""
    return settings_from_plain(_plain(composed))


def settings_from_plain(values: Mapping[str, Any]) -> TrainConfig | LanguageModelConfig:
    """Build the settings of the task that plain `values` name."""
    if task_of(values) == "language_model":
        return command_settings(LanguageModelConfig, values)
    return command_settings(TrainConfig, values)


def task_of(values: Mapping[str, Any]) -> str:
    """The task of stored settings; they are a captioner's where they were stored before there was another task."""
    return choose("task", str(values.get("task", TASKS[0])), TASKS)


def evaluate_settings(composed: DictConfig) -> EvaluateConfig:
    """Convert what Hydra composed for `evaluate.py`; ConfigError for a value that cannot work."""
    return command_settings(EvaluateConfig, _plain(composed))


def compose_train_settings(overrides: Sequence[str]) -> TrainConfig:
    """Compose the settings that `train.py` would use with these `overrides`, without a run folder."""
    settings = training_settings(_compose("train", overrides))
    if not isinstance(settings, TrainConfig):
        raise ConfigError("This command works with task=captioning only: leave task=language_model out.")
    return settings


def compose_language_model_settings(overrides: Sequence[str]) -> LanguageModelConfig:
    """Compose the settings that `train.py task=language_model` would use with these `overrides`."""
    settings = training_settings(_compose("language_model", overrides))
    if not isinstance(settings, LanguageModelConfig):
        raise ConfigError("This command works with task=language_model only: leave task=captioning out.")
    return settings


def compose_evaluate_settings(overrides: Sequence[str]) -> EvaluateConfig:
    """Compose the settings that `evaluate.py` would use with these `overrides`, without a run folder."""
    return evaluate_settings(_compose("evaluate", overrides))


def _compose(primary: str, overrides: Sequence[str]) -> DictConfig:
    check_overrides(overrides)
    register()
    with initialize_config_dir(str(CONF), **VERSION_BASE):
        return compose(primary, list(overrides))


def _plain(composed: DictConfig) -> dict[str, Any]:
    values = OmegaConf.to_container(composed, resolve=True, structured_config_mode=SCMode.DICT)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}
