"""The types of a dataclass's fields, worked out once: Python compiles the text of each annotation at every call."""

from __future__ import annotations

import functools
import typing
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any


def type_hints(kind: Any) -> Mapping[str, Any]:
    """The annotations of the class `kind` as types, by field."""
    return _type_hints(kind)


@functools.cache
def _type_hints(kind: Any) -> Mapping[str, Any]:
    return MappingProxyType(typing.get_type_hints(kind))
