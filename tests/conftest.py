"""What all tests share: one thread count, the shapes of tensors checked, and where real data is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from jaxtyping import install_import_hook

# Shape annotations are enforced in tests only.
_hook = install_import_hook(["captioner.nn", "captioner.decode"], "beartype.beartype")
_hook.__enter__()


@pytest.fixture(autouse=True)
def _isolated(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test has its own cache folder and starts from the same random state."""
    monkeypatch.setenv("CAPTIONER_CACHE", str(tmp_path_factory.mktemp("cache")))
    torch.manual_seed(0)
    return


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real photos and captions; the test is skipped where it is absent."""
    folder = os.environ.get("CAPTIONER_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("CAPTIONER_DATA does not name the folder of real data (flickr8k/, coco_mini/, coco_text/)")
    return Path(folder)
