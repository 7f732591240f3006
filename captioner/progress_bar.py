"""How far a long command is: a bar where standard error is a terminal, elsewhere a line now and then."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

EVERY = 30.0  # seconds between two lines


class Progress:
    """A context in which `update(count)` says that `count` more of `total` are done.

    with Progress(len(images), "captions") as progress:
        ...
        progress.update(8)

    Where standard error is a terminal, a bar shows how many are done, how many a second, and the time left; in a file,
    such as the log of a batch system, a line says the same every `EVERY` seconds, the first after as many.
    initial: how many were done before. keep: whether the bar stays when it is full. enabled=False: nothing is shown,
    nor where the environment has TQDM_DISABLE=1.
    """

    def __init__(
        self,
        total: int,
        title: str,
        unit: str = "image",
        *,
        initial: int = 0,
        keep: bool = False,
        enabled: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total, self.title, self.unit, self.keep, self.clock = total, title, unit, keep, clock
        self.initial, self.done, self.facts = initial, initial, ""
        self.enabled = enabled and os.environ.get("TQDM_DISABLE", "0") in ("", "0")
        self._started = self._written = 0.0
        self._bar: Any = None

    def update(self, count: int = 1) -> None:
        """Count `count` more."""
        self.done += count
        if self._bar is not None:
            self._bar.update(count)
        elif self.enabled and self.clock() - self._written >= EVERY:
            self._written = self.clock()
            sys.stderr.write(self._line() + "\n")
            sys.stderr.flush()

    def show(self, facts: str) -> None:
        """Show `facts`, such as the loss, behind the figures from now on."""
        self.facts = facts
        if self._bar is not None:
            self._bar.set_postfix_str(facts)

    def note(self, line: str) -> None:
        """Write a line to standard error, above the bar."""
        if self._bar is not None:
            self._bar.write(line, file=sys.stderr)
        else:
            sys.stderr.write(line + "\n")

    def _line(self) -> str:
        speed = (self.done - self.initial) / (self._written - self._started)
        parts = [f"{self.title}: {self.done:,} of {self.total:,} {self.unit}{'es' if self.unit == 'batch' else 's'}"]
        parts.append(f"{speed:.3g} per second")
        if self.done < self.total and speed > 0:
            parts.append(f"{format_duration((self.total - self.done) / speed)} left")
        return ", ".join([*parts, self.facts] if self.facts else parts)

    def __enter__(self) -> Progress:
        self._started = self._written = self.clock()
        if self.enabled and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(
                total=self.total,
                initial=self.initial,
                desc=self.title,
                unit=self.unit,
                leave=self.keep,
                disable=False,  # for tqdm reads the environment when it is imported
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()


def format_duration(seconds: float) -> str:
    """Such as 40 s, 12 min or 3.5 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
