"""Checks of single values, which every group of settings makes of its own."""

from __future__ import annotations

import math

from captioner.errors import ConfigError


def at_least(kind: str, value: float | None, least: float) -> None:
    if value is not None and not least <= value < math.inf:  # nor is NaN a number to work with
        problem = "too small" if value < least else "no number"
        raise ConfigError(f"{kind}={value} is {problem}: expected {least} or more.")


def within(kind: str, value: float | None, low: float, high: float) -> None:
    if value is not None and not low <= value <= high:
        raise ConfigError(f"{kind}={value} is out of range: expected a number from {low} to {high}.")
