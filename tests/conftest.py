"""What all tests share: the shapes of tensors checked, folders, a trained run, and where real data is."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from jaxtyping import install_import_hook

# Shape annotations are enforced in tests only.
_hook = install_import_hook(["captioner.nn", "captioner.decode"], "beartype.beartype")
_hook.__enter__()


@pytest.fixture(scope="session")
def new_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """new_folder(name): an empty folder with a number of its own.

    `tmp_path_factory.mktemp` reads the names of all its folders to find the next number, which for thousands of tests
    takes longer each time.
    """
    parent, numbers = tmp_path_factory.mktemp("tests"), itertools.count()

    def make(name: str) -> Path:
        folder = parent / f"{re.sub(r'[^A-Za-z0-9]+', '_', name)[:30]}-{next(numbers)}"
        folder.mkdir(mode=0o700)
        return folder

    return make


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest, new_folder: Callable[[str], Path]) -> Path:
    """An empty folder of the test; replaces pytest's fixture of this name."""
    return new_folder(request.node.name)


@pytest.fixture(autouse=True)
def _isolated(new_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test has its own cache folder and starts from the same random state."""
    monkeypatch.setenv("CAPTIONER_CACHE", str(new_folder("cache")))
    monkeypatch.setenv("TQDM_DISABLE", "1")  # what is printed does not depend on how long a test takes
    monkeypatch.setattr(os, "fsync", _no_fsync)
    torch.manual_seed(0)


def _no_fsync(descriptor: int) -> None:
    """In place of os.fsync, which makes files survive a loss of power: no test can see that, and all wait for disks."""
    os.fstat(descriptor)  # an error for what is no open file, as fsync has


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of `train_tiny`, whose captions are right, trained once for all tests: copy it before changing it."""
    from tests.tiny import train_tiny  # here: the hook above must come before the package

    return train_tiny(tmp_path_factory.mktemp("tiny_run"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real photos and captions; the test is skipped where it is absent."""
    folder = os.environ.get("CAPTIONER_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("CAPTIONER_DATA does not name the folder of real data (flickr8k/, coco_mini/, coco_text/)")
    return Path(folder)
