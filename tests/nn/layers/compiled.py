"""What the tests of the compiled kernels share."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

needs_compiler = pytest.mark.skipif(
    not sys.platform.startswith("linux") or shutil.which("gcc") is None, reason="needs gcc on Linux"
)


def assert_wrong_libraries_are_not_used(
    module: ModuleType,
    load: Callable[[], object],
    mistakes: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
) -> None:
    """With each of `mistakes` (right text → mistaken text) in the C file of `module`, `load` finds no library."""
    wrong = folder / "wrong.c"
    text = module._SOURCE.read_text("utf-8")
    for right, mistaken in mistakes.items():
        assert right in text
        wrong.write_text(text.replace(right, mistaken), "utf-8")
        monkeypatch.setattr(module, "_SOURCE", wrong)
        assert load() is None
