"""Ctrl-C and SIGTERM: during training a request to stop after the step and save, elsewhere the end with a message.

docs/runs.md has the table of what a signal does when, to which process.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from captioner.distributed.ranks import is_main_process, rank_info

STOPPING = (signal.SIGINT, signal.SIGTERM)
SAME_REQUEST = 2.0  # seconds in which a scheduler and a launcher may both send one request to a rank


class Interrupted(KeyboardInterrupt):
    """Training was stopped by the signal `signal_number`, and has saved a checkpoint."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal.Signals(signal_number).name)
        self.signal_number = signal_number


class Terminated(KeyboardInterrupt):
    """SIGTERM, where there is no training to save: at its start, while the cache is filled, in another command."""


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """A context in which SIGTERM raises Terminated, as SIGINT raises KeyboardInterrupt; a second one ends the process.

    Handlers can only be set in the main thread: it does nothing elsewhere.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def raise_terminated(signal_number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise Terminated

    before = signal.signal(signal.SIGTERM, raise_terminated)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class StopRequest:
    """A context in which the first SIGINT or SIGTERM only sets `signal_number`; the second has its usual effect.

    The ranks of a job may get one request twice, from the scheduler and from their launcher: that is no second one.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._asked_at = 0.0
        self._at_once = False
        self._before: dict[int, Any] = {}

    def _ask(self, signal_number: int, frame: FrameType | None) -> None:
        if self.signal_number is not None:
            if rank_info().world_size > 1 and time.monotonic() - self._asked_at < SAME_REQUEST:
                return
            self._restore()
            signal.raise_signal(signal_number)
            return
        self.signal_number, self._asked_at = signal_number, time.monotonic()
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
            for number in STOPPING:
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()
