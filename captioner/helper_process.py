"""Processes that do a part of the work beside this one: Python with the same packages, silent, ended with a block."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

PACKAGE_PARENT = Path(__file__).parents[1]


class Helper:
    """One process; None where it could not be started."""

    def __init__(self, process: subprocess.Popen[bytes] | None) -> None:
        self._process = process

    def succeeded(self) -> bool:
        """Wait for its end; whether it did its work. Who needs that does it where this is False, and gets the error."""
        return self._process is not None and self._process.wait() == 0

    def end(self) -> None:
        """End it if it is still running."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@contextmanager
def helpers(commands: Sequence[Sequence[str]]) -> Iterator[list[Helper]]:
    """A context in which a process runs `python` with each of the arguments; those still running at its end are ended.

    They find this captioner, installed or not. What they print is dropped.
    """
    started: list[Helper] = []
    try:
        for command in commands:
            started.append(Helper(_start(command)))
        yield started
    finally:
        for helper in started:
            helper.end()


def _start(command: Sequence[str]) -> subprocess.Popen[bytes] | None:
    path = os.pathsep.join(filter(None, (str(PACKAGE_PARENT), os.environ.get("PYTHONPATH"))))
    try:
        return subprocess.Popen(
            [sys.executable, *command],
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    except OSError:  # no such program, as where Python is part of another one, or no process more
        return None
