"""KEY=VALUE options of the small commands, read into a dataclass.

Where a value is text it is taken as it stands: a prompt may hold brackets, quotes and equals signs, which Hydra's
own grammar would ask a person to escape.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Sequence
from dataclasses import MISSING, fields
from typing import Any, TypeVar

from captioner.errors import ConfigError, near_misses

T = TypeVar("T")
_KINDS = {int: "a whole number", float: "a number", bool: "true or false"}


def read_options(kind: type[T], arguments: Sequence[str]) -> T:
    """The dataclass `kind` from KEY=VALUE arguments; ConfigError says which is wrong, and what was expected."""
    hints = typing.get_type_hints(kind)
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals:
            raise ConfigError(f"{argument} cannot be read: expected KEY=VALUE, such as {names[0]}=…")
        if key not in names:
            raise ConfigError(f"{key} does not exist.{near_misses(key, names)} See --help for all options.")
        values[key] = _converted(hints[key], key, value)
    required = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]  # type: ignore[arg-type]
    for name in required:
        if name not in values:
            raise ConfigError(f"{name}=… is missing. See --help for all options.")
    return kind(**values)


def _converted(expected: Any, key: str, value: str) -> Any:
    options = typing.get_args(expected) if typing.get_origin(expected) in (typing.Union, types.UnionType) else ()
    if options:
        if value == "null":
            return None
        expected = next(option for option in options if option is not type(None))
    if expected is bool:
        if value.lower() in ("true", "false"):
            return value.lower() == "true"
    else:
        try:
            return expected(value)
        except ValueError:
            pass
    raise ConfigError(f"{key}={value} has the wrong type: expected {_KINDS[expected]}.")
