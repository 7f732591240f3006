"""Checks that a group of settings makes of its values."""

from __future__ import annotations

import math
from collections.abc import Sequence
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


def at_least(name: str, value: float | None, least: float) -> None:
    """ConfigError for a value of the setting `name` below `least`, infinite or NaN; null passes."""
    if value is not None and not least <= value < math.inf:
        problem = "too small" if value < least else "not a finite number"
        raise ConfigError(f"{name}={value} is {problem}: expected {least} or more.")


def starts_before_end(name: str, after: int, epochs: int, what: str) -> None:
    """ConfigError for a setting `name` that starts something, described by `what`, after the last of `epochs`."""
    if after >= epochs:
        raise ConfigError(
            f"{name}={after} leaves no epoch in which {what}, because trainer.max_epochs is {epochs}: choose more "
            "epochs, or an earlier start."
        )


def within(name: str, value: float | None, low: float, high: float) -> None:
    """ConfigError for a value of the setting `name` outside `low` to `high`, or NaN; null passes."""
    if value is not None and not low <= value <= high:
        raise ConfigError(f"{name}={value} is out of range: expected a number from {low} to {high}.")


def check_resume_despite(names: Sequence[str], changes: Sequence[str], resume: str | None) -> None:
    """ConfigError for a change that does not exist, and for accepted changes where nothing is resumed."""
    for name in names:
        choose("resume_despite", name, changes)
    if names and resume is None:
        raise ConfigError(
            f"resume_despite=[{','.join(names)}] is for a run that is resumed: give resume=runs/…, or leave it out."
        )
