"""Which runs of a sweep have equal settings: all but the first of them would only repeat it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from captioner.errors import ConfigError
from captioner.schema import to_plain


@dataclass
class SweptSettings:
    """The settings of a sweep's runs so far, each with what the command line and the sweep set for it."""

    runs: list[tuple[dict[str, Any], list[str]]] = field(default_factory=list)

    def add(self, config: Any, overrides: Sequence[str], arguments: Sequence[str]) -> None:
        """Take a run into account; ConfigError where an earlier one had the same settings.

        overrides: KEY=VALUE of this run, swept ones included. arguments: the command line.
        """
        plain = to_plain(config)
        earlier = next((given for settings, given in self.runs if settings == plain), None)
        if earlier is None:
            self.runs.append((plain, list(overrides)))
            return
        varied = [override for override in overrides if override not in earlier]
        if not varied:
            raise ConfigError("This sweep has these settings twice: the run is not repeated.")
        fixed = [override for override in overrides if override in earlier and override in arguments]
        keys = {override.partition("=")[0].rpartition(".")[2] for override in varied}  # cell=…: model.cell=…
        decisive = [one for one in fixed if keys & set(one.partition("=")[0].split("."))] or fixed
        message = (
            f"{' '.join(varied)} has no effect: this sweep had a run with the same settings "
            f"({' '.join(override for override in earlier if override not in overrides)}), so it is not repeated."
        )
        if decisive:
            message += f" Leave out what fixes the settings that the sweep varies: {' '.join(decisive)}."
        raise ConfigError(message)
