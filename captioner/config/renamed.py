"""Settings that had another name in an earlier release.

A renamed setting has no alias. The command line answers its old name with the new one, and settings that were stored
under the old name (config.yaml of a run folder, config.json of a checkpoint) are migrated when they are read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from captioner.config.explain import setting_exists
from captioner.errors import ConfigError


@dataclass(frozen=True)
class RenamedSetting:
    """A setting with a new name; `values` maps old values to new ones where those changed as well."""

    old: str
    new: str
    values: tuple[tuple[Any, Any], ...] = ()

    @property
    def shown(self) -> str:
        """What was renamed, for messages and documentation."""
        return self.old

    @property
    def is_active(self) -> bool:
        """Does the new name exist? Until then the old one is still in use."""
        return setting_exists(self.new)

    def matches(self, name: str, value: str | None) -> bool:
        """Is this the old name? `value` is as it was written, None where only the name was given."""
        return name == self.old

    def replacement(self, value: str | None) -> str:
        """What to write instead on the command line."""
        return f"{self.new}={_new_value(self.values, value) or '…'}"

    def is_stored(self, settings: dict[str, Any]) -> bool:
        """Whether stored settings have the old name."""
        group, key = _group(settings, self.old)
        return group is not None and key in group

    def migrate(self, settings: dict[str, Any]) -> None:
        """Rename the setting in stored settings, in place."""
        group, key = _group(settings, self.old)
        if group is None or key not in group:
            return
        new_group, new_key = _group(settings, self.new)
        if new_group is not None and new_key not in new_group:
            new_group[new_key] = _new_value(self.values, group.pop(key))


@dataclass(frozen=True)
class RenamedValue:
    """A value of a setting that is written with other settings today: `new` maps dotted names to their values."""

    setting: str
    value: str
    new: tuple[tuple[str, Any], ...]

    @property
    def shown(self) -> str:
        """What was renamed, for messages and documentation."""
        return f"{self.setting}={self.value}"

    @property
    def is_active(self) -> bool:
        """Do the new names exist? Until then the old value is still in use."""
        return all(setting_exists(name) for name, _ in self.new)

    def matches(self, name: str, value: str | None) -> bool:
        """Is this the old value, alone or in a sweep?"""
        return name == self.setting and value is not None and self.value in value.split(",")

    def replacement(self, value: str | None) -> str:
        """What to write instead on the command line."""
        return " ".join(f"{name}={new}" for name, new in self.new)

    def is_stored(self, settings: dict[str, Any]) -> bool:
        """Whether stored settings have the old value."""
        group, key = _group(settings, self.setting)
        return group is not None and group.get(key) == self.value

    def migrate(self, settings: dict[str, Any]) -> None:
        """Write the new settings in place of the old value, in stored settings."""
        group, key = _group(settings, self.setting)
        if group is None or group.get(key) != self.value:
            return
        for name, new in self.new:
            new_group, new_key = _group(settings, name)
            if new_group is not None:
                new_group[new_key] = new


Renamed = RenamedSetting | RenamedValue

RENAMED: tuple[Renamed, ...] = (
    RenamedSetting("trainer.accumulate", "trainer.gradient_accumulation_steps"),
    RenamedValue(
        "trainer.precision",
        "fast_float32",
        (("trainer.precision", "float32"), ("trainer.float32_matmul_precision", "medium")),
    ),
    RenamedSetting("beside", "baselines"),
)
"""In the order of the releases: stored settings pass through all of them."""


def check_renamed(overrides: Sequence[str], renamed: Sequence[Renamed] = RENAMED) -> None:
    """ConfigError for KEY=VALUE with an old name or value; the message gives what to write instead."""
    for override in overrides:
        name, equals, value = override.lstrip("+~").partition("=")
        for entry in renamed:
            if entry.matches(name, value if equals else None) and entry.is_active:
                raise ConfigError(f"{entry.shown} was renamed: use {entry.replacement(value or None)}")


def migrate_settings(settings: Mapping[str, Any], renamed: Sequence[Renamed] = RENAMED) -> dict[str, Any]:
    """Stored settings, as plain nested values, with the names and values of this release.

    A setting that is stored under its old and its new name is left as it is: the schema then reports the old name.
    """
    migrated = {key: dict(value) if isinstance(value, dict) else value for key, value in settings.items()}
    for entry in renamed:
        if entry.is_stored(migrated) and entry.is_active:  # in this order: the second reads all settings
            entry.migrate(migrated)
    return migrated


def _group(settings: dict[str, Any], name: str) -> tuple[dict[str, Any] | None, str]:
    """The stored group that holds the dotted `name`, if it is stored at all, and the key in it."""
    outer, _, key = name.rpartition(".")
    group = settings.get(outer) if outer else settings
    return (group if isinstance(group, dict) else None), key


def _new_value(values: tuple[tuple[Any, Any], ...], value: Any) -> Any:
    return next((new for old, new in values if old == value), value)
