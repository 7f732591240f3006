"""Checks of KEY=VALUE arguments before Hydra reads them."""

from __future__ import annotations

from collections.abc import Sequence

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
