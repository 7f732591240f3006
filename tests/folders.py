"""A test's own folders, which go when it has passed: those of all tests together would fill a small disk."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

NewFolder = Callable[[str], Path]
"""new_folder(name): an empty folder with a number of its own."""

_failed = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember whether a part of the test failed."""
    report = yield
    item.stash[_failed] = item.stash.get(_failed, False) or report.failed
    return report


@pytest.fixture(scope="session")
def _numbered_folder(tmp_path_factory: pytest.TempPathFactory) -> NewFolder:
    """`tmp_path_factory.mktemp` reads the names of all its folders to find the next number, which for thousands of
    tests takes longer each time.
    """
    parent, numbers = tmp_path_factory.mktemp("tests"), itertools.count()

    def make(name: str) -> Path:
        folder = parent / f"{re.sub(r'[^A-Za-z0-9]+', '_', name)[:30]}-{next(numbers)}"
        folder.mkdir(mode=0o700)
        return folder

    return make


@pytest.fixture
def new_folder(request: pytest.FixtureRequest, _numbered_folder: NewFolder) -> Iterator[NewFolder]:
    """Folders that are removed when the test has passed, and kept to be looked at when it has failed.

    Asked for before `monkeypatch`, so that nothing is patched any more when they are removed.
    """
    made: list[Path] = []

    def make(name: str) -> Path:
        made.append(_numbered_folder(name))
        return made[-1]

    yield make
    if not request.node.stash.get(_failed, False):
        for folder in made:
            remove_folder(folder)


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest, new_folder: NewFolder) -> Path:
    """An empty folder of the test; replaces pytest's fixture of this name."""
    return new_folder(request.node.name)


def remove_folder(folder: Path, patience: float = 120.0) -> None:
    """Remove a folder with all in it, also what a test took its own permissions from.

    A process that the test has told to end may still write there: while files come and go, wait for it.

    Raises:
        OSError: something still writes there after `patience` seconds: the test leaves it running.
    """
    deadline = time.monotonic() + patience
    while folder.exists():
        try:
            shutil.rmtree(folder)
        except OSError as error:
            if time.monotonic() > deadline:
                raise OSError(
                    f"The test has ended, and something it started still writes in {folder}: {error}"
                ) from error
            _permit(folder)
            time.sleep(0.01)


def _permit(folder: Path) -> None:
    """Give the owner all rights to a folder and the folders in it, as far as they are still there."""
    with contextlib.suppress(FileNotFoundError):
        folder.chmod(0o700)
    for parent, names, _ in os.walk(folder):  # their rights are given before it is their turn to be read
        for path in (Path(parent, name) for name in names):
            if not path.is_symlink():
                with contextlib.suppress(FileNotFoundError):
                    path.chmod(0o700)
