"""config.yaml, the settings of a run in its folder: written when the run starts, read when it is resumed.

The file is untrusted, like a checkpoint, and read as plain values: YAML tags create no objects, aliases are rejected,
and nothing is interpolated.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

from captioner.checkpoint.index import read_index
from captioner.cli.choices import CONF
from captioner.cli.hydra_config import settings_from_plain
from captioner.cli.runs_folder import CONFIG_FILE
from captioner.cli.setting_suggestions import unknown_setting
from captioner.config import LanguageModelConfig, TrainConfig
from captioner.config.renamed import migrate_settings
from captioner.errors import CheckpointError, ConfigError
from captioner.files import write_atomically
from captioner.schema import to_plain


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no types
    """Reads plain values only. It reads 1e-5 as a number, which YAML 1.1 does only with a decimal point (1.0e-5)."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """A node of the file; ValueError for an alias, by which a small file could stand for endless settings."""
        if self.check_event(yaml.AliasEvent):
            raise ValueError("it contains a YAML alias, which no run writes")
        return super().compose_node(parent, index)


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?\d+[eE][-+]?\d+$"), list("-+0123456789"))


def write_settings(config: TrainConfig | LanguageModelConfig, run_folder: Path) -> None:
    """Write config.yaml with the settings in use, including those that were changed when the run was resumed."""
    stored = to_plain(replace(config, resume=None, resume_despite=[]))
    text = yaml.safe_dump(stored, sort_keys=False, allow_unicode=True)
    write_atomically(run_folder / CONFIG_FILE, text.encode("utf-8"))


def read_settings(run_folder: Path) -> dict[str, Any]:
    """Read a run's config.yaml, with the setting names of this release.

    CheckpointError if the file cannot be read or contains no settings.
    """
    path = run_folder / CONFIG_FILE
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except Exception as error:  # the constructor of a YAML tag may raise anything
        raise CheckpointError(f"{path} cannot be read ({' '.join(str(error).split()):.200}).") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} was altered: expected groups of settings.")
    return migrate_settings({str(key): value for key, value in values.items()})


def resumed_settings(run_folder: Path, overrides: Sequence[str]) -> TrainConfig | LanguageModelConfig:
    """The stored settings of a run, changed by the KEY=VALUE `overrides` that are given with `resume=`.

    CheckpointError if the run folder has no valid settings; ConfigError for an override that a resumed run does not
    allow.
    """
    if not (run_folder / CONFIG_FILE).is_file():
        if read_index(run_folder) is not None:
            raise CheckpointError(
                f"resume={run_folder} has a checkpoint and no training to resume (no {CONFIG_FILE}): start one from "
                f"its weights with init_from={run_folder}."
            )
        raise CheckpointError(
            f"resume={run_folder} is no run folder: it has no {CONFIG_FILE}. Expected a folder such as runs/…; a run "
            "that was stopped before its training began cannot be resumed: start it again."
        )
    try:
        stored = settings_from_plain(read_settings(run_folder))
    except ConfigError as error:
        raise CheckpointError(f"{run_folder / CONFIG_FILE} was altered or made by another version: {error}") from error
    values = to_plain(stored) | {"resume": str(run_folder)}
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
    return settings_from_plain(values)


def change_settings(values: dict[str, Any], overrides: Sequence[str]) -> None:
    """Apply KEY=VALUE to plain groups of settings, in place; ConfigError where there is no such setting."""
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        if override.is_delete() or override.is_sweep_override():
            raise ConfigError(f"{override.input_line} cannot be used here: expected KEY=VALUE.")
        _change(values, override.key_or_group, override.value())


def _change(values: dict[str, Any], key: str, value: Any) -> None:
    """Set the dotted setting `key` in nested `values`; ConfigError with near misses if it does not exist."""
    outer_key, _, name = key.rpartition(".")
    settings = values.get(outer_key) if outer_key else values
    if not isinstance(settings, dict) or name not in settings:
        raise ConfigError(unknown_setting(key))
    settings[name] = value
