"""What all tests share: the shapes of tensors checked, folders, a trained run, and where real data is."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

from tests.folders import NewFolder, _numbered_folder, new_folder, pytest_runtest_makereport, tmp_path
from tests.shapes import enforce_shapes, forget_calls

__all__ = ["_numbered_folder", "new_folder", "pytest_runtest_makereport", "tmp_path"]

# No property may fail because the machine has other work.
settings.register_profile("any_machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any_machine")
enforce_shapes("captioner.nn", "captioner.decode")
composed_once, translated_once = pytest.MonkeyPatch(), pytest.MonkeyPatch()
gc.disable()  # until all tests are imported


def pytest_collection_finish() -> None:
    """Do once what many tests share, and let garbage collection leave out the million objects imported."""
    from tests.composed_settings import keep_composed_settings  # here: the hook above must come before the package
    from tests.onnx_registry import keep_onnx_registry

    keep_composed_settings(composed_once)
    keep_onnx_registry(translated_once)
    gc.enable()
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)  # a step makes thousands of objects that are freed without a collection


@pytest.fixture(autouse=True)
def _isolated(new_folder: NewFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test has its own cache folder and starts from the same random state."""
    monkeypatch.setenv("CAPTIONER_CACHE", str(new_folder("cache")))
    monkeypatch.setenv("TQDM_DISABLE", "1")  # what is printed does not depend on how long a test takes
    monkeypatch.setattr(os, "fsync", _no_fsync)
    forget_calls()
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
