"""Convert the dataclasses of `config` to plain values and back, checking every key and every type.

The settings of a checkpoint come from an untrusted file. They are compared with the dataclass field
by field; nothing in them is ever resolved, interpolated or called.
"""

from __future__ import annotations

import contextlib
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import Any, TypeVar

from captioner.config import DATASETS, DECODERS, DataConfig, ModelConfig
from captioner.config.type_hints import type_hints
from captioner.errors import ConfigError, near_misses

T = TypeVar("T")


def to_plain(config: Any) -> dict[str, Any]:
    """Convert a dataclass to dicts, lists and scalars, ready for JSON or YAML."""
    return {key: _plain(value) for key, value in asdict(config).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def from_plain(kind: type[T], values: Any, where: str) -> T:
    """Build the dataclass `kind` from a plain dict of its fields; a field that is missing takes its default.

    `where` is the dotted name of the group, for messages. ConfigError names the key and what was expected.
    """
    if not isinstance(values, dict):
        raise ConfigError(f"{where} must be a group of settings, but is {values!r}.")
    hints = type_hints(kind)
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    for key in values:
        if key not in names:
            raise ConfigError(f"{where}.{key} does not exist.{near_misses(str(key), names)}")
    return kind(**{key: checked(hints[key], value, f"{where}.{key}") for key, value in values.items()})


def checked(expected: Any, value: Any, where: str) -> Any:
    """Return `value` as the type `expected`; ConfigError where it has another. An int passes as a float, a bool never
    as an int.

    `where` is the dotted name of the setting, for the message.
    """
    origin, arguments = typing.get_origin(expected), typing.get_args(expected)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return checked(next(option for option in arguments if option is not type(None)), value, where)
    if origin in (list, tuple) and isinstance(value, (list, tuple)):
        kinds = [arguments[0]] * len(value) if origin is list else list(arguments)
        if len(kinds) == len(value):
            items = (checked(kind, item, where) for kind, item in zip(kinds, value, strict=True))
            return list(items) if origin is list else tuple(items)
    if expected is float and type(value) in (int, float):
        with contextlib.suppress(OverflowError):  # an integer beyond the range of float
            return float(value)
    if isinstance(expected, type) and type(value) is expected:
        return value
    name = str(expected) if origin else expected.__name__
    raise ConfigError(f"{where}={value!r} has the wrong type: expected {name}.")


def model_settings(values: Any) -> ModelConfig:
    """Build a decoder's settings from plain values; `name` selects the dataclass in DECODERS."""
    return from_plain(DECODERS[_name(values)], values, "model")


def data_settings(values: Any) -> DataConfig:
    """Build a data set's settings from plain values; `name` selects the dataclass in DATASETS."""
    return from_plain(DATASETS[_name(values)], values, "data")


def _name(values: Any) -> str:
    return str(values.get("name") if isinstance(values, dict) else None)


_BY_NAME: dict[type, Callable[[Any], Any]] = {ModelConfig: model_settings, DataConfig: data_settings}


def command_settings(command: type[T], values: Mapping[str, Any]) -> T:
    """Build the settings of a command (TrainConfig, LanguageModelConfig or EvaluateConfig) from plain groups of values.

    ConfigError names a setting that does not exist, has the wrong type, or contradicts another.
    """
    hints = type_hints(command)
    built: dict[str, Any] = {}
    for key, value in values.items():
        if key not in hints:
            raise ConfigError(f"{key} does not exist.{near_misses(key, hints)} See --help for all settings.")
        expected = hints[key]
        if expected in _BY_NAME:
            built[key] = _BY_NAME[expected](value)
        elif isinstance(expected, type) and is_dataclass(expected):
            built[key] = from_plain(expected, value, key)
        else:
            built[key] = checked(expected, value, key)
    return command(**built)
