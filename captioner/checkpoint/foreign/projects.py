"""The projects whose checkpoints can be imported. Their code is imported when one is chosen."""

from __future__ import annotations

from typing import Any

from captioner.registry import Registry

PROJECTS: Registry[Any] = Registry(
    "--from",
    "captioner.foreign_checkpoints",
    {
        "sgrvinod": "captioner.checkpoint.foreign.sgrvinod",
        "yunjey": "captioner.checkpoint.foreign.yunjey",
        "ruotianluo": "captioner.checkpoint.foreign.ruotianluo",
    },
)
"""Name → a module with `recognizes(content)` and `convert(files)`; see `captioner.checkpoint.foreign.sgrvinod`."""
