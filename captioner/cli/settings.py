"""From YAML and the command line to the dataclasses of `captioner.config`: the only place that knows Hydra's schema."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf, SCMode

from captioner.cli.run import refuse_repeated
from captioner.config import (
    AttentionConfig,
    AugmentConfig,
    CacheConfig,
    ChenZitnickConfig,
    CocoConfig,
    DecodeConfig,
    EncoderConfig,
    EvaluateConfig,
    Flickr8kConfig,
    Flickr30kConfig,
    FolderConfig,
    LanguageModelConfig,
    LanguageNetworkConfig,
    LanguageTrainerConfig,
    MetricConfig,
    MRNNConfig,
    OptimConfig,
    RecurrentConfig,
    SamplingConfig,
    ScenesConfig,
    ShardsConfig,
    TextConfig,
    TokenizerConfig,
    TrainConfig,
    TrainerConfig,
    VocabularyConfig,
)
from captioner.data.build import data_settings
from captioner.engine.distributed import first_said
from captioner.errors import ConfigError, near_misses
from captioner.nn.build import model_settings
from captioner.schema import from_plain

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
    for model in (RecurrentConfig, AttentionConfig, MRNNConfig, ChenZitnickConfig):
        store.store(group="model", name=f"{model().name}_schema", node=model)
    for data in (ScenesConfig, CocoConfig, Flickr8kConfig, Flickr30kConfig, FolderConfig, ShardsConfig):
        store.store(group="data", name=f"{data().name}_schema", node=data)
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
    return resume or f"runs/{first_said('started', time.strftime('%Y-%m-%d_%H-%M-%S'))}_{'_'.join(names)}"


def choices(*names: str | None) -> str:
    """The groups (all, or those named) and their choices, for --help; Hydra's own list would also name the schemas."""
    wanted = {name for name in names if name}
    groups = sorted({path.parent for path in CONF.glob("*/*.yaml")})
    listed = [(group.name, sorted(path.stem for path in group.glob("*.yaml"))) for group in groups]
    lines = [f"  {name}: {', '.join(stems)}" for name, stems in listed if not wanted or name in wanted]
    return "\n".join(lines) + "\n"


def train_settings(composed: DictConfig) -> TrainConfig:
    """What Hydra composed for `train.py` as plain dataclasses, every value checked."""
    return _build(TrainConfig, composed, {**_GROUPS, "model": model_settings, "data": data_settings})


def language_model_settings(composed: DictConfig) -> LanguageModelConfig:
    """The same for `train.py task=language_model`."""
    return _build(LanguageModelConfig, composed, _LANGUAGE_GROUPS)


def evaluate_settings(composed: DictConfig) -> EvaluateConfig:
    """The same for `evaluate.py`."""
    return _build(EvaluateConfig, composed, {**_GROUPS, "data": data_settings})


def compose_train_settings(overrides: Sequence[str]) -> TrainConfig:
    """What `train.py` would use with these options, without its run folder: for the other commands."""
    refuse_repeated(overrides)
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return train_settings(compose("train", list(overrides)))


def compose_language_model_settings(overrides: Sequence[str]) -> LanguageModelConfig:
    """The same for `train.py task=language_model`."""
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return language_model_settings(compose("language_model", list(overrides)))


def _build(kind: type[T], composed: DictConfig, groups: dict[str, Any]) -> T:
    """Each group as its dataclass, or as what its function makes of it; what belongs to no group as it is."""
    values = OmegaConf.to_container(composed, resolve=True, structured_config_mode=SCMode.DICT)
    assert isinstance(values, dict)
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    built: dict[str, Any] = {}
    for key, value in values.items():
        if key not in names:
            raise ConfigError(f"{key!s} does not exist.{near_misses(str(key), names)} See --help for all settings.")
        group = groups.get(str(key))
        if isinstance(group, type):
            built[str(key)] = from_plain(group, value, str(key))
        else:
            built[str(key)] = value if group is None else group(value)
    return kind(**built)
