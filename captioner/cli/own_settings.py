"""Settings that a command has besides those of train.py, in the same KEY=VALUE grammar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, fields
from typing import Any, TypeVar

from hydra.core.override_parser.overrides_parser import OverridesParser

from captioner.config.type_hints import type_hints
from captioner.errors import ConfigError
from captioner.schema import checked

T = TypeVar("T")


def split_settings(kind: type[T], arguments: Sequence[str]) -> tuple[T, list[str]]:
    """The command's own settings as the dataclass `kind`, and the other arguments, which are settings of train.py.

    ConfigError for a value of the wrong type, and for a setting without a default that is not given.
    """
    hints = type_hints(kind)
    own = [argument for argument in arguments if argument.partition("=")[0] in hints]
    values: dict[str, Any] = {}
    for override in OverridesParser.create().parse_overrides(own):
        values[override.key_or_group] = checked(hints[override.key_or_group], override.value(), override.key_or_group)
    for field in fields(kind):  # type: ignore[arg-type]
        if field.name not in values and field.default is MISSING and field.default_factory is MISSING:
            raise ConfigError(f"{field.name}=… is missing. See --help for all settings.")
    return kind(**values), [argument for argument in arguments if argument not in own]
