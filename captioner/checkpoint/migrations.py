"""Checkpoints of earlier format versions, migrated to the current one, one version at a time.

`MIGRATIONS` holds one function per old version for the content of `config.json`, `TRAINER_STATE_MIGRATIONS` one for
the content of `trainer.pt`. Each takes and returns plain values, in the format of its version and of the next one.

When does `FORMAT_VERSION` grow?

    It does not grow for a new setting whose default does what was done before the setting existed:
        a key that is missing in config.json takes the default of its dataclass.
    It grows for anything else: a setting or a key that is renamed or removed, a default that would change the
        captions of an old checkpoint, other files. Then, in this order: keep a sample of the version that is left
        behind (`python tests/checkpoint/samples/make.py`), raise FORMAT_VERSION, add a migration that writes down
        what the old version did, and make a sample of the new version.

The names of settings are migrated by the table in `captioner.config.renamed`, which also serves run folders.

The tests load every sample and compare its captions with those that it gave when it was made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from captioner.config.renamed import migrate_settings
from captioner.errors import CheckpointError
from captioner.version import __version__

FORMAT_VERSION = 3
OLDEST_VERSION = 1

TRAINER_STATE_RENAMED_IN_3 = {
    "bad_pictures": "bad_images",
    "left_out": "skipped_images",
    "portions": "gradient_accumulation_steps",
    "weights": "raw_weights",
    "log": "log_sizes",
}
"""Key of `trainer.pt` in version 2 → its name in version 3."""

PROGRESS_RENAMED_IN_3 = {"judged_step": "last_validation_step", "steps_noted": "steps_summed"}
"""The same for the keys of its `progress`."""


def _config_from_1(config: dict[str, Any]) -> dict[str, Any]:
    """Version 1 kept its checksums in config.json, and captioning was the only task."""
    return {"task": "captioning", **{key: value for key, value in config.items() if key != "sha256"}}


def _config_from_2(config: dict[str, Any]) -> dict[str, Any]:
    """Version 3 calls the weights that an export does not contain `omitted_weights`."""
    return _renamed(config, {"left_out": "omitted_weights"})


def _trainer_state_from_2(state: dict[str, Any]) -> dict[str, Any]:
    """Version 3 renames keys; what they hold is unchanged."""
    state = _renamed(state, TRAINER_STATE_RENAMED_IN_3)
    if isinstance(state.get("progress"), dict):
        state["progress"] = _renamed(state["progress"], PROGRESS_RENAMED_IN_3)
    return state


Migration = Callable[[dict[str, Any]], dict[str, Any]]

MIGRATIONS: dict[int, Migration] = {1: _config_from_1, 2: _config_from_2}
"""Version → the migration of `config.json` from that version to the next."""

TRAINER_STATE_MIGRATIONS: dict[int, Migration] = {2: _trainer_state_from_2}
"""Version → the migration of `trainer.pt` from that version to the next, where it changed."""


def format_version(config: Any, folder: Path) -> int:
    """The format version of a checkpoint by its `config.json`; CheckpointError if this release cannot read it."""
    version = config.get("format_version") if isinstance(config, dict) else None
    if type(version) is not int or version < OLDEST_VERSION:
        raise CheckpointError(
            f"{folder} has format version {version!r}, which no captioner wrote: its config.json was altered."
        )
    if version > FORMAT_VERSION:
        raise CheckpointError(
            f"{folder} has format version {version}, and captioner {__version__} reads versions {OLDEST_VERSION} to "
            f"{FORMAT_VERSION}: install the captioner that wrote it, or a newer one."
        )
    return version


def migrate(config: dict[str, Any]) -> dict[str, Any]:
    """The content of a `config.json` whose version `format_version` accepted, in the current format."""
    for version in range(config["format_version"], FORMAT_VERSION):
        config = MIGRATIONS[version](config) | {"format_version": version + 1}
    return migrate_settings(config)


def migrate_trainer_state(state: dict[str, Any], version: int) -> dict[str, Any]:
    """The content of a `trainer.pt` of a checkpoint of format `version`, in the current format."""
    for old in range(version, FORMAT_VERSION):
        state = TRAINER_STATE_MIGRATIONS[old](state) if old in TRAINER_STATE_MIGRATIONS else state
    return state


def _renamed(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """`values` under new names, where `names` has one."""
    return {names.get(key, key): value for key, value in values.items()}
