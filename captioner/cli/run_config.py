"""The settings that a run keeps in its folder, as config.yaml: written when it starts, read when it is carried on.

The file may be anybody's, like a checkpoint: it is read as plain values. A tag makes no object, an alias no copies,
and nothing in it is looked up or interpolated.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

from captioner.cli.choices import CONF
from captioner.cli.hydra_config import settings_from_plain
from captioner.cli.runs_folder import CONFIG_FILE
from captioner.config import LanguageModelConfig, TrainConfig
from captioner.config.renamed import migrate_settings
from captioner.errors import CheckpointError, ConfigError, near_misses
from captioner.files import write_atomically
from captioner.schema import to_plain


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no types
    """Plain values only; 1e-5 is a number here, as people write it, though YAML 1.1 asks for a point in it."""


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?\d+[eE][-+]?\d+$"), list("-+0123456789"))


def keep_settings(config: TrainConfig | LanguageModelConfig, run_folder: Path) -> None:
    """Write them, also those that were changed on resume."""
    text = yaml.safe_dump(to_plain(replace(config, resume=None)), sort_keys=False, allow_unicode=True)
    write_atomically(run_folder / CONFIG_FILE, text.encode("utf-8"))


def read_settings(run_folder: Path) -> dict[str, Any]:
    """A run's config.yaml with the setting names of this release; CheckpointError where it holds no settings."""
    path = run_folder / CONFIG_FILE
    try:
        text = path.read_text(encoding="utf-8")
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)):
            raise ValueError("no run writes an alias (*) there")
        values = yaml.load(text, Loader=_Loader)
    except Exception as error:  # a tag may raise anything for what does not fit it
        raise CheckpointError(f"{path} cannot be read ({' '.join(str(error).split()):.200}).") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} was altered: expected groups of settings.")
    return migrate_settings({str(key): value for key, value in values.items()})


def resumed_settings(run_folder: Path, overrides: Sequence[str]) -> TrainConfig | LanguageModelConfig:
    """The run's own settings, with the values given beside `resume=` in their place."""
    if not (run_folder / CONFIG_FILE).is_file():
        raise CheckpointError(
            f"resume={run_folder} is no run folder: it holds no {CONFIG_FILE}. Expected one such as runs/…; a run that "
            "was stopped before its training began has nothing to resume: start it again."
        )
    try:
        stored = settings_from_plain(read_settings(run_folder))
    except ConfigError as error:
        raise CheckpointError(f"{run_folder / CONFIG_FILE} was altered or made by another version: {error}") from error
    values = to_plain(stored)
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        key, line = override.key_or_group, override.input_line
        if key == "resume":
            continue
        if key == "task" and override.value() != stored.task:
            raise ConfigError(f"{run_folder} is a run of task={stored.task}: leave {line} out.")
        if (CONF / key).is_dir():
            raise ConfigError(
                f"{line} cannot go with resume=: a resumed run keeps its {key}. "
                "Only values such as trainer.max_epochs=20 can be changed."
            )
        if override.is_delete() or override.is_sweep_override():
            raise ConfigError(f"{line} cannot go with resume=: expected KEY=VALUE.")
        _change(values, key, override.value())
    return replace(settings_from_plain(values), resume=str(run_folder))


def _change(values: dict[str, Any], key: str, value: Any) -> None:
    """Put `value` where the dotted `key` says; ConfigError where there is no such setting."""
    group, _, name = key.rpartition(".")
    inside = values.get(group) if group else values
    if not isinstance(inside, dict) or name not in inside:
        keys = [f"{outer}.{inner}" for outer, own in values.items() if isinstance(own, dict) for inner in own]
        raise ConfigError(f"{key} does not exist.{near_misses(key, [*keys, *values])} See --help for all settings.")
    inside[name] = value
