"""Checks of values, which every group of settings makes of its own."""

from __future__ import annotations

import math

from captioner.errors import ConfigError


def at_least(kind: str, value: float | None, least: float) -> None:
    if value is not None and not least <= value < math.inf:  # nor is NaN a number to work with
        problem = "too small" if value < least else "no number"
        raise ConfigError(f"{kind}={value} is {problem}: expected {least} or more.")


def begins_in_time(kind: str, after: int, epochs: int, what: str) -> None:
    if after >= epochs:
        raise ConfigError(
            f"{kind}={after} leaves no epoch in which {what}, for trainer.max_epochs is {epochs}: choose more epochs, "
            "or an earlier start."
        )


def within(kind: str, value: float | None, low: float, high: float) -> None:
    if value is not None and not low <= value <= high:
        raise ConfigError(f"{kind}={value} is out of range: expected a number from {low} to {high}.")
