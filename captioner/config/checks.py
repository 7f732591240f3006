"""Checks that a group of settings makes of its values."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

from captioner.errors import ConfigError, choose


def check_choices(group: str, settings: Any) -> None:
    """ConfigError for a value that is not among its dataclass's `choices`. null passes where it is the default.

    `choices` is a class variable, setting → allowed values, so that --help and the documentation list them too.
    """
    defaults = {field.name: field.default for field in fields(settings)}
    for key, allowed in settings.choices.items():
        value = getattr(settings, key)
        if value is not None or defaults[key] is not None:
            choose(f"{group}.{key}", value, allowed)


def at_least(kind: str, value: float | None, least: float) -> None:
    if value is not None and not least <= value < math.inf:  # nor is NaN a number to work with
        problem = "too small" if value < least else "no number"
        raise ConfigError(f"{kind}={value} is {problem}: expected {least} or more.")


def starts_before_end(kind: str, after: int, epochs: int, what: str) -> None:
    if after >= epochs:
        raise ConfigError(
            f"{kind}={after} leaves no epoch in which {what}, for trainer.max_epochs is {epochs}: choose more epochs, "
            "or an earlier start."
        )


def within(kind: str, value: float | None, low: float, high: float) -> None:
    if value is not None and not low <= value <= high:
        raise ConfigError(f"{kind}={value} is out of range: expected a number from {low} to {high}.")
