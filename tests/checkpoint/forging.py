"""Checkpoints altered by somebody who means harm: the sums fit what they wrote."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from captioner.checkpoint.manifest import write_manifest


def forge(folder: Path, name: str, content: bytes) -> None:
    """Replace a file of a checkpoint, and its sum."""
    (folder / name).write_bytes(content)
    write_manifest(folder)


def forge_config(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """`change` works on config.json's content in place; its sum is made to fit."""
    content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    change(content)
    forge(folder, "config.json", json.dumps(content).encode())
