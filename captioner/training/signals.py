"""Ctrl-C and SIGTERM as a request to stop after the current step, so that a checkpoint can be saved."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from captioner.distributed.ranks import is_main_process


class Interrupted(KeyboardInterrupt):
    """Training was stopped by the signal `signal_number`, and has saved a checkpoint."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal.Signals(signal_number).name)
        self.signal_number = signal_number


class StopRequest:
    """A context in which the first SIGINT or SIGTERM only sets `signal_number`; the second has its usual effect."""

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._at_once = False
        self._before: dict[int, Any] = {}

    def _ask(self, signal_number: int, frame: FrameType | None) -> None:
        self.signal_number = signal_number
        self._restore()  # a second signal stops the process
        if self._at_once:
            raise Interrupted(signal_number)
        if is_main_process():
            sys.stderr.write("\nStopping after this step and saving (once more to stop at once without saving) …\n")

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """A context in which a request raises Interrupted at once: for long work that changes no state."""
        self._at_once = True
        try:
            if self.signal_number is not None:
                raise Interrupted(self.signal_number)
            yield
        finally:
            self._at_once = False

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():  # handlers can only be set there
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()
