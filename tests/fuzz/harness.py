"""The rules that every fuzzed case must keep, and how many cases there are.

The cases are the same in every run, so that a test does not pass on one day and fail on the next. With
CAPTIONER_FUZZ=random they are new.
"""

from __future__ import annotations

import hashlib
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from captioner.errors import CaptionerError

T = TypeVar("T")
CANARY = "executed"  # a payload that is executed leaves a file of this name in the watched folder
OUTCOMES: Counter[tuple[str, str]] = Counter()  # (kind, "read" or "refused") → cases; conftest.py prints it
_refusals: list[str] = []  # of the current case
SECONDS = 20  # more than any case takes, also on a busy machine


@dataclass
class Case:
    """The input of a test; its repr is short, for the report of a failure."""

    value: Any

    def __repr__(self) -> str:
        return f"{self.value!r:.2000}"


def shares(fast: int, all_of_them: int) -> pytest.MarkDecorator:
    """Parametrize `cases`: few cases in the fast tests, all in the slow ones."""
    slow = pytest.param(all_of_them, id="all", marks=pytest.mark.slow)
    return pytest.mark.parametrize("cases", [pytest.param(fast, id="some"), slow])


def fuzz(cases: int, strategy: st.SearchStrategy[T], check: Callable[[T], None]) -> None:
    """Run `check` on this many cases of `strategy`."""
    done = 0
    kind = Path(os.environ["PYTEST_CURRENT_TEST"].partition("::")[0]).stem.removeprefix("test_")

    @settings(
        max_examples=cases,
        deadline=None,
        derandomize=os.environ.get("CAPTIONER_FUZZ") != "random",
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy.map(Case))
    def one(case: Case) -> None:
        nonlocal done
        done += 1
        _refusals.clear()
        check(case.value)
        OUTCOMES[kind, "refused" if _refusals else "read"] += 1

    one()
    assert done >= cases


class HarmError(AssertionError):
    """A case changed something, or took too long."""


@contextmanager
def harmless(folder: Path) -> Iterator[None]:
    """Check that the block succeeds or raises a CaptionerError in time, and leaves `folder` unchanged."""
    before = tree(folder)
    with time_limit(SECONDS), refusal_noted():
        yield
    if tree(folder) != before:
        raise HarmError("Something was written, changed or removed.")


@contextmanager
def refusal_noted() -> Iterator[None]:
    """Let the block succeed or raise a CaptionerError, and count the latter."""
    try:
        yield
    except CaptionerError as error:
        note_refusal(str(error))


def note_refusal(message: str) -> None:
    """Count a refusal, whose message is not empty and contains no traceback."""
    assert message.strip()
    assert "Traceback (most recent call last)" not in message
    _refusals.append(message)


@contextmanager
def replaced(path: Path, content: bytes) -> Iterator[None]:
    """Give a file other content inside the block."""
    before = path.read_bytes()
    path.write_bytes(content)
    try:
        yield
    finally:
        path.write_bytes(before)


def tree(folder: Path) -> dict[str, str]:
    """Path → hash of the content, or mode of a folder or link, for everything below `folder`."""
    found = {}
    for path in folder.rglob("*"):
        is_content = path.is_file() and not path.is_symlink()
        found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest() if is_content else str(path.lstat().st_mode)
    return found


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """HarmError where the block takes longer than `seconds`."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def stop(*_: Any) -> None:
        raise HarmError(f"It took more than {seconds} seconds.")

    handler = signal.signal(signal.SIGALRM, stop)
    timer = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, handler)
