"""What every fuzzed case must keep to, and how many cases there are.

The cases are the same at every run, so that a test which passed does not fail on another day; with
CAPTIONER_FUZZ=random they are new ones.
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
CANARY = "executed"  # what a payload that is run leaves in the folder that is watched
OUTCOMES: Counter[tuple[str, str]] = Counter()  # (kind, "read" or "refused") → cases; conftest.py prints it
_refusals: list[str] = []  # of the case under way
SECONDS = 20  # more than any case takes, on a machine with other work


@dataclass
class Case:
    """What a test is given, shown in few words where it fails."""

    value: Any

    def __repr__(self) -> str:
        return f"{self.value!r:.2000}"


def shares(fast: int, all_of_them: int) -> pytest.MarkDecorator:
    """The parameter `cases`: a few for every day, all of them for the slow tests."""
    slow = pytest.param(all_of_them, id="all", marks=pytest.mark.slow)
    return pytest.mark.parametrize("cases", [pytest.param(fast, id="some"), slow])


def fuzz(cases: int, strategy: st.SearchStrategy[T], check: Callable[[T], None]) -> None:
    """Run `check` on so many cases."""
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
    """Something was changed, or took too long."""


@contextmanager
def harmless(folder: Path) -> Iterator[None]:
    """Inside, something succeeds or raises a CaptionerError, in reasonable time, and nothing in `folder` changes."""
    before = tree(folder)
    with time_limit(SECONDS), refusal_noted():
        yield
    if tree(folder) != before:
        raise HarmError("Something was written, changed or removed.")


@contextmanager
def refusal_noted() -> Iterator[None]:
    """Inside, something succeeds, or is refused by a CaptionerError, which is counted."""
    try:
        yield
    except CaptionerError as error:
        note_refusal(str(error))


def note_refusal(message: str) -> None:
    """A refusal is a sentence for people: it says something, and shows no code."""
    assert message.strip()
    assert "Traceback (most recent call last)" not in message
    _refusals.append(message)


@contextmanager
def replaced(path: Path, content: bytes) -> Iterator[None]:
    """Inside, a file has other content."""
    before = path.read_bytes()
    path.write_bytes(content)
    try:
        yield
    finally:
        path.write_bytes(before)


def tree(folder: Path) -> dict[str, str]:
    """Every file and folder below, with a hash of its content, or where it leads."""
    found = {}
    for path in folder.rglob("*"):
        is_content = path.is_file() and not path.is_symlink()
        found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest() if is_content else str(path.lstat().st_mode)
    return found


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Fail where this takes longer."""
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
