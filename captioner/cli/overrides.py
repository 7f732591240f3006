"""KEY=VALUE arguments: checked before Hydra reads them, and written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from captioner.cli.choices import check_choices
from captioner.config.renamed import check_renamed
from captioner.errors import ConfigError


def check_overrides(arguments: Sequence[str]) -> None:
    """ConfigError for a renamed setting, a plug-in that cannot be used, and a shard pattern that the shell expanded."""
    check_renamed(arguments)
    check_choices(arguments)
    _check_repeated(arguments)


def _check_repeated(arguments: Sequence[str]) -> None:
    """ConfigError for shards given twice: a shell made several arguments of {0..9}, and Hydra would use the last."""
    keys = [argument.split("=")[0] for argument in arguments if argument.startswith("data.")]
    for key in ("data.train", "data.val", "data.test"):
        if keys.count(key) > 1:
            raise ConfigError(
                f"{key} is given {keys.count(key)} times. A shell turns {{0..9}} into several words unless the setting "
                f"is quoted, twice: \"{key}='shard-{{0..9}}.tar'\"."
            )


def as_argument(value: Any) -> str:
    """A plain value as it is written on the command line: null, true, [a,b], and text quoted where it needs to be."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(map(as_argument, value))}]"
    text = str(value)
    if not isinstance(value, str) or re.fullmatch(r"[\w./:+%@?*| -]*\w", text):
        return text
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def flat_settings(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested groups of plain settings as one table: dotted name → value."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flat_settings(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def is_given(group: str, overrides: list[str]) -> bool:
    """Whether the command line sets anything of this group."""
    return any(override.lstrip("+").startswith((f"{group}=", f"{group}.")) for override in overrides)
