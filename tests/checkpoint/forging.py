"""Alter checkpoints as an attacker would: with checksums that fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from captioner.checkpoint.manifest import write_manifest


def forge(folder: Path, name: str, content: bytes) -> None:
    """Replace a file of a checkpoint, and its checksum."""
    (folder / name).write_bytes(content)
    write_manifest(folder)


def forge_config(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Apply `change` to the content of config.json, in place, and update its checksum."""
    content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    change(content)
    forge(folder, "config.json", json.dumps(content).encode())
