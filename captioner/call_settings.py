"""The arguments of `Captioner.caption`: keywords and their near misses, and the settings of one call."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, replace
from typing import Any, ParamSpec, TypeVar

from captioner.config import RANKED_SEARCHES, SEARCHES, USED_BY, DecodeConfig
from captioner.errors import ConfigError, choose, near_misses
from captioner.schema import from_plain, to_plain

P = ParamSpec("P")
R = TypeVar("R")

_OTHER_NAMES = {
    "num_beams": "beam_width",
    "beam_size": "beam_width",
    "max_new_tokens": "max_length",
    "n_best": "alternatives",
    "num_return_sequences": "alternatives",
    "search": "decode",
    "method": "decode",
}
"""What other libraries call a keyword of ours → ours, for error messages."""


def check_keywords(method: str, given: Iterable[str], known: Sequence[str]) -> None:
    """ConfigError where a keyword does not exist; it names the one that was probably meant, and lists all."""
    for name in given:
        if name not in known:
            prefixed = [other for other in known if other.startswith(name) or name.startswith(other)]
            likely = [_OTHER_NAMES[name]] if _OTHER_NAMES.get(name) in known else prefixed
            hint = f" Did you mean {', '.join(likely)}?" if likely else near_misses(name, known)
            raise ConfigError(f"{method}() has no keyword {name!r}.{hint} Choose one of: {', '.join(sorted(known))}.")


def suggest_keywords(method: Callable[P, R]) -> Callable[P, R]:
    """`method`, which answers a keyword that it does not have with `check_keywords`' message."""
    known = [name for name in inspect.signature(method).parameters if name not in ("cls", "self")]

    @functools.wraps(method)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        check_keywords(method.__qualname__, kwargs, known)
        return method(*args, **kwargs)

    return checked


def decode_settings(
    default: DecodeConfig, decode: DecodeConfig | str | None, alternatives: int, settings: dict[str, Any]
) -> DecodeConfig:
    """The settings of one call of `Captioner.caption`: `decode`, by default `default`, with single settings replaced.

    Diverse beam search without a given `beam_width` has the next one that its groups divide.
    ConfigError for a setting that does not exist, is out of range or has no effect on this search.
    """
    known = [entry.name for entry in fields(DecodeConfig) if entry.name != "name"]
    check_keywords(
        "Captioner.caption", settings, [*known, "images", "decode", "alternatives", "tags", "must_have", "must_not"]
    )
    values = to_plain(decode if isinstance(decode, DecodeConfig) else default)
    name = decode if isinstance(decode, str) else values["name"]
    choose("decode", name, SEARCHES)
    for key, value in settings.items():
        if name not in USED_BY.get(key, (name,)):
            raise ConfigError(
                f"{key}={value} has no effect on decode={name!r}: give "
                f"{' or '.join(f'decode={other!r}' for other in USED_BY[key])} as well."
            )
    values |= {"name": name, **settings}
    groups = values["groups"]
    if name == "diverse" and "beam_width" not in settings and isinstance(groups, int) and groups > 0:
        values["beam_width"] = _next_multiple(values["beam_width"], groups)
    config = from_plain(DecodeConfig, values, "decode")
    if alternatives < 0:
        raise ConfigError(f"alternatives={alternatives}: expected 0 or more.")
    if alternatives and config.name not in RANKED_SEARCHES:
        raise ConfigError(f"alternatives={alternatives} needs a beam search, but this is decode.name={config.name}.")
    if config.name in RANKED_SEARCHES and config.beam_width <= alternatives:
        groups = config.groups if config.name == "diverse" else 1  # of equal width
        config = replace(config, beam_width=_next_multiple(alternatives + 1, groups))
    return config


def _next_multiple(number: int, of: int) -> int:
    """The smallest multiple of `of` that is at least `number`."""
    return -(-number // of) * of


def describe_search(decode: DecodeConfig) -> str:
    """A search and its settings in one line, such as "beam, beam_width=5, length_penalty=1, max_length=20"."""
    return ", ".join([decode.name, *decode.described])
