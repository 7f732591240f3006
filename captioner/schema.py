"""Plain values ↔ the dataclasses of `config`, every key and every type checked.

A checkpoint's settings come from a file that anybody may have written; they are compared with the
dataclass field by field, and nothing in them is ever looked up, interpolated or called.
"""

from __future__ import annotations

import contextlib
import types
import typing
from dataclasses import asdict, fields
from typing import Any, TypeVar

from captioner.config import DATASETS, DECODERS, DataConfig, ModelConfig
from captioner.errors import ConfigError, near_misses

T = TypeVar("T")


def to_plain(config: Any) -> dict[str, Any]:
    """A dataclass as dicts, lists and scalars, ready for JSON or YAML."""
    return {key: _plain(value) for key, value in asdict(config).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def from_plain(kind: type[T], values: Any, where: str) -> T:
    """The dataclass `kind` from a plain dict; ConfigError names `where`, the key and what was expected."""
    if not isinstance(values, dict):
        raise ConfigError(f"{where} should be a group of settings, but is {values!r}.")
    hints = typing.get_type_hints(kind)
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    for key in values:
        if key not in names:
            raise ConfigError(f"{where}.{key} does not exist.{near_misses(str(key), names)}")
    return kind(**{key: checked(hints[key], value, f"{where}.{key}") for key, value in values.items()})


def checked(expected: Any, value: Any, where: str) -> Any:
    """`value` as the type `expected`, or a ConfigError. int is taken for float; bool never for int."""
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
        with contextlib.suppress(OverflowError):  # an integer that no float can hold
            return float(value)
    if isinstance(expected, type) and type(value) is expected:
        return value
    name = str(expected) if origin else expected.__name__
    raise ConfigError(f"{where}={value!r} has the wrong type: expected {name}.")


def model_settings(raw: Any) -> ModelConfig:
    """A decoder's settings from plain values; their `name` says which dataclass they are."""
    name = raw.get("name") if isinstance(raw, dict) else None
    return from_plain(DECODERS[str(name)], raw, "model")


def data_settings(raw: Any) -> DataConfig:
    """A data set's settings from plain values; their `name` says which dataclass they are."""
    name = raw.get("name") if isinstance(raw, dict) else None
    return from_plain(DATASETS[str(name)], raw, "data")
