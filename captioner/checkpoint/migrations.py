"""Checkpoints of earlier versions, brought up to today's one version at a time.

A shim turns the content of `config.json` of its version into that of the next: plain values in, plain values out.

When does `FORMAT_VERSION` grow?

    A new setting whose default does what was done before there was the setting: it does not.
        A key that is missing in config.json takes the default of its dataclass.
    Anything else does: a setting that is renamed or removed, a default that would change what an old checkpoint
        says, other files. Then, in this order: keep a sample of the version that is left behind
        (`python tests/checkpoint/samples/make.py`), raise FORMAT_VERSION, and add a shim that writes down what
        the old version did.

The test of the samples holds both: every sample loads, and says what it said when it was made.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from captioner.errors import CheckpointError
from captioner.version import __version__

FORMAT_VERSION = 2


def _from_1(config: dict[str, Any]) -> dict[str, Any]:
    """Version 1 kept its checksums in config.json itself, and at first there was one task only."""
    return {"task": "captioning", **{key: value for key, value in config.items() if key != "sha256"}}


SHIMS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_1}
"""Version → from that version to the next."""


def format_version(config: Any, folder: Path) -> int:
    """The version of a checkpoint by its `config.json`; CheckpointError for one that this release cannot read."""
    version = config.get("format_version") if isinstance(config, dict) else None
    if type(version) is not int or version < min(SHIMS):
        raise CheckpointError(
            f"{folder} has format version {version!r}, which no captioner wrote: its config.json was altered."
        )
    if version > FORMAT_VERSION:
        raise CheckpointError(
            f"{folder} has format version {version}, and captioner {__version__} reads versions {min(SHIMS)} to "
            f"{FORMAT_VERSION}: install the captioner that wrote it, or a newer one."
        )
    return version


def migrate(config: dict[str, Any]) -> dict[str, Any]:
    """The same content in today's format; its version is one that `format_version` gave."""
    for version in range(config["format_version"], FORMAT_VERSION):
        config = SHIMS[version](config) | {"format_version": version + 1}
    return config
