"""From YAML and the command line to the dataclasses of `captioner.config`: the only place that knows Hydra's schema."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf, SCMode

from captioner.cli.overrides import check_overrides
from captioner.cli.runs_folder import RUNS_FOLDER
from captioner.config import (
    DATASETS,
    DECODERS,
    TASKS,
    AugmentConfig,
    CacheConfig,
    DecodeConfig,
    EncoderConfig,
    EvaluateConfig,
    LanguageModelConfig,
    LanguageNetworkConfig,
    LanguageTrainerConfig,
    MetricConfig,
    OptimConfig,
    RewardConfig,
    SamplingConfig,
    TextConfig,
    TokenizerConfig,
    TrainConfig,
    TrainerConfig,
    VocabularyConfig,
)
from captioner.distributed.ranks import first_value_in_job
from captioner.errors import ConfigError, choose, near_misses
from captioner.schema import checked, data_settings, from_plain, model_settings

T = TypeVar("T")
PACKAGE = Path(__file__).resolve().parent.parent
CONF = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parent / "conf"
"""Inside the package when it was installed from a wheel, beside it in a checkout."""

_GROUPS: dict[str, type] = {
    "encoder": EncoderConfig,
    "tokenizer": TokenizerConfig,
    "vocabulary": VocabularyConfig,
    "cache": CacheConfig,
    "augment": AugmentConfig,
    "optim": OptimConfig,
    "trainer": TrainerConfig,
    "reward": RewardConfig,
    "decode": DecodeConfig,
    "metric": MetricConfig,
}
"""Settings groups that are one dataclass each; `model` and `data` are one of several, by their `name`."""

_LANGUAGE_GROUPS: dict[str, type] = {
    "data": TextConfig,
    "model": LanguageNetworkConfig,
    "optim": OptimConfig,
    "trainer": LanguageTrainerConfig,
    "sampling": SamplingConfig,
}
"""Those of a language model."""

PRIMARY = {"captioning": "train", "language_model": "language_model"}
"""Which file of conf/ each task of train.py starts from."""


def register() -> None:
    """Tell Hydra the types of all settings, and where a run goes. Called once, before Hydra starts."""
    store = ConfigStore.instance()
    store.store(name="train_schema", node=_schema(TrainConfig, "model", "data"))
    store.store(name="language_model_schema", node=_schema(LanguageModelConfig))
    store.store(name="evaluate_schema", node=_schema(EvaluateConfig, "data"))
    for group, registry in (("model", DECODERS), ("data", DATASETS)):
        for name in registry:
            store.store(group=group, name=f"{name}_schema", node=registry[name])
    OmegaConf.register_new_resolver("run_folder", run_folder_name, replace=True, use_cache=True)
    OmegaConf.register_new_resolver("choices", choices, replace=True)


def _schema(config: type, *chosen: str) -> DictConfig:
    """The types of all settings; the groups `chosen` hold any of their dataclasses, so they start empty."""
    schema: DictConfig = OmegaConf.structured(config)
    for group in chosen:
        schema[group] = MISSING
    return schema


def run_folder_name(resume: str | None, *names: str) -> str:
    """`runs/<date>_<time>_<names>`, or the folder of the run that is resumed; one for all processes of a job."""
    if resume:
        return resume
    name = f"{time.strftime('%Y-%m-%d_%H-%M-%S')}_{'_'.join(names)}"
    others = itertools.count(2)  # of the same second: started at once, or before the clock was set back
    free, folder = name, RUNS_FOLDER
    while (folder / free).exists():
        free = f"{name}.{next(others)}"
    return str(folder / first_value_in_job("started", free))


def choices(*names: str | None) -> str:
    """The groups (all, or those named) and their choices, for --help; Hydra's own list would also name the schemas."""
    wanted = {name for name in names if name}
    groups = sorted({path.parent for path in CONF.glob("*/*.yaml")})
    listed = [(group.name, sorted(path.stem for path in group.glob("*.yaml"))) for group in groups]
    lines = [f"  {name}: {', '.join(stems)}" for name, stems in listed if not wanted or name in wanted]
    return "\n".join(lines) + "\n"


def training_settings(composed: DictConfig) -> TrainConfig | LanguageModelConfig:
    """What Hydra composed for `train.py` as plain dataclasses, every value checked."""
    return settings_from_plain(_plain(composed))


def settings_from_plain(values: Mapping[str, Any]) -> TrainConfig | LanguageModelConfig:
    """The same from plain values, whatever the task that they name."""
    if task_of(values) == "language_model":
        return _build(LanguageModelConfig, values, _LANGUAGE_GROUPS)
    return _build(TrainConfig, values, {**_GROUPS, "model": model_settings, "data": data_settings})


def task_of(values: Mapping[str, Any]) -> str:
    """Settings that were stored before there were tasks are those of a captioner."""
    return choose("task", str(values.get("task", TASKS[0])), TASKS)


def evaluate_settings(composed: DictConfig) -> EvaluateConfig:
    """The same for `evaluate.py`."""
    return _build(EvaluateConfig, _plain(composed), {**_GROUPS, "data": data_settings})


def compose_train_settings(overrides: Sequence[str]) -> TrainConfig:
    """What `train.py` would use with these options, without its run folder: for the other commands."""
    check_overrides(overrides)
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        settings = training_settings(compose("train", list(overrides)))
    if not isinstance(settings, TrainConfig):
        raise ConfigError("task=language_model cannot go with this command.")
    return settings


def compose_language_model_settings(overrides: Sequence[str]) -> LanguageModelConfig:
    """The same for `train.py task=language_model`."""
    check_overrides(overrides)
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        settings = training_settings(compose("language_model", list(overrides)))
    if not isinstance(settings, LanguageModelConfig):
        raise ConfigError("task=captioning cannot go with this command.")
    return settings


def _plain(composed: DictConfig) -> dict[str, Any]:
    values = OmegaConf.to_container(composed, resolve=True, structured_config_mode=SCMode.DICT)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def _build(kind: type[T], values: Mapping[str, Any], groups: dict[str, Any]) -> T:
    """Each group as its dataclass, or as what its function makes of it; what belongs to no group as it is."""
    hints = get_type_hints(kind)
    built: dict[str, Any] = {}
    for key, value in values.items():
        if key not in hints:
            raise ConfigError(f"{key} does not exist.{near_misses(key, hints)} See --help for all settings.")
        group = groups.get(key)
        if isinstance(group, type):
            built[key] = from_plain(group, value, key)
        else:
            built[key] = checked(hints[key], value, key) if group is None else group(value)
    return kind(**built)
