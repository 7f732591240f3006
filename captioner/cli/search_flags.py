"""The flags of caption.py that choose a search: `--decode NAME`, and one flag for each setting of DecodeConfig."""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields
from typing import Any

from captioner.call_settings import decode_settings
from captioner.config import RANKED_SEARCHES, SEARCHES, USED_BY, DecodeConfig
from captioner.config.type_hints import type_hints
from captioner.errors import ConfigError

WITH_TORCH = tuple(name for name in SEARCHES if name not in ("greedy", "beam"))
"""The searches that only torch has."""

_TRUTHS = {"true": True, "false": False}
_SETTINGS = tuple(field.name for field in fields(DecodeConfig) if field.name != "name")

RENAMED = {"decode.name": "--decode"} | {f"decode.{name}": f"--{name.replace('_', '-')}" for name in _SETTINGS}
"""KEY=VALUE of evaluate.py → the flag that does the same."""


def add_search(parser: argparse.ArgumentParser) -> None:
    """`--decode NAME` and the settings of the searches, explained as in `evaluate.py --help`."""
    group = parser.add_argument_group("search (default: the run's; docs/decoding.md defines each setting)")
    group.add_argument("--decode", choices=SEARCHES, help=", ".join(SEARCHES))
    hints = type_hints(DecodeConfig)
    explanations = _explanations() if {"-h", "--help"} & set(sys.argv) else {}
    for name in _SETTINGS:
        kind = hints[name]
        group.add_argument(
            f"--{name.replace('_', '-')}",
            type=str if kind is bool else kind,
            choices=tuple(_TRUTHS) if kind is bool else None,
            metavar={int: "N", float: "X", bool: "true|false"}[kind],
            help=explanations.get(name, "").replace("%", "%%"),
        )


def _explanations() -> dict[str, str]:
    """Setting → what it does; it is read from source files, so only where it is shown."""
    from captioner.config.explain import settings_of

    return {setting.name: setting.explanation for setting in settings_of(DecodeConfig)}


def given_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings that flags gave, by their names in DecodeConfig."""
    given = {name: getattr(arguments, name) for name in _SETTINGS}
    return {name: _TRUTHS.get(value, value) for name, value in given.items() if value is not None}


def given_flags(arguments: argparse.Namespace) -> dict[str, str]:
    """The flags of this module that were given → their values, as a person wrote them."""
    given = {"decode": arguments.decode} | given_settings(arguments)
    return {f"--{name.replace('_', '-')}": _shown(value) for name, value in given.items() if value is not None}


def read_search(arguments: argparse.Namespace, default: DecodeConfig) -> DecodeConfig:
    """The search of the flags, with the settings of `default` that no flag gives.

    `--beam-width` alone asks for a beam search. ConfigError for a setting that is out of range, or has no effect.
    """
    settings = given_settings(arguments)
    name = arguments.decode or default.name
    if arguments.decode is None and "beam_width" in settings and name not in RANKED_SEARCHES:
        name = "beam"
    for key, value in settings.items():
        if name not in USED_BY.get(key, (name,)):
            raise ConfigError(
                f"--{key.replace('_', '-')} {_shown(value)} has no effect on the search {name}: give "
                f"{' or '.join(f'--decode {other}' for other in USED_BY[key])} as well."
            )
    return decode_settings(default, name, 0, settings)


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
