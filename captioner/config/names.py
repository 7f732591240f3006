"""The dotted names of all settings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import get_type_hints

from captioner.config.commands import EvaluateConfig, LanguageModelConfig, TrainConfig
from captioner.config.data import DATASETS, DataConfig
from captioner.config.model import DECODERS, ModelConfig

COMMANDS = (TrainConfig, EvaluateConfig, LanguageModelConfig)
"""The settings of each command and task."""


def setting_names(command: type) -> Iterator[str]:
    """Every setting of one command, such as "seed" or "trainer.max_epochs", in the dataclass's order.

    `model` and `data` have the settings of every decoder and data set that can be loaded.
    """
    hints = get_type_hints(command)
    for field in fields(command):
        yield field.name
        kinds: list[type] = [hints[field.name]]
        if kinds == [ModelConfig]:
            kinds = list(DECODERS.loadable().values())
        elif kinds == [DataConfig]:
            kinds = list(DATASETS.loadable().values())
        names = [inner.name for kind in kinds if is_dataclass(kind) for inner in fields(kind)]
        yield from (f"{field.name}.{name}" for name in dict.fromkeys(names))


def setting_exists(name: str) -> bool:
    """Is this dotted name a setting of any command?"""
    return any(name in setting_names(command) for command in COMMANDS)
