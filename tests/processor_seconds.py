"""`pytest -p tests.processor_seconds`: how much of the processor each test takes, with the processes it starts.

On a machine with other work these say what `--durations`, which shows how long a test has waited too, does not.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Generator
from typing import Any

import pytest

SHOWN = 20
_started = pytest.StashKey[float]()
_seconds: dict[str, float] = {}


def _spent() -> float:
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Note what this process has spent before the test."""
    item.stash[_started] = _spent()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add to the last report of a test what it has spent: reports reach the process that prints them."""
    report = yield
    if report.when == "teardown":
        report.user_properties.append(("processor_seconds", _spent() - item.stash[_started]))
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Collect the seconds of each test."""
    for name, value in report.user_properties:
        if name == "processor_seconds" and report.when == "teardown":
            _seconds[report.nodeid] = float(str(value))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the sum, those of the folders, and the slowest tests."""
    folders: dict[str, float] = defaultdict(float)
    for name, spent in _seconds.items():
        folders[name.split("::")[0].rpartition("/")[0]] += spent
    terminalreporter.section(f"{sum(_seconds.values()):.1f} processor seconds in {len(_seconds)} tests")
    for spent_by in (folders, _seconds):
        for name in sorted(spent_by, key=spent_by.__getitem__, reverse=True)[:SHOWN]:
            terminalreporter.line(f"{spent_by[name]:8.2f} {name}")
