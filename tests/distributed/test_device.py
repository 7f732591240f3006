"""The device that a name selects, and the error for a device that does not exist."""

from __future__ import annotations

import pytest
import torch

from captioner.distributed.device import choose_device
from captioner.errors import ConfigError


def pretend(monkeypatch: pytest.MonkeyPatch, *, cuda: int = 0, mps: bool = False) -> None:
    """Pretend that the machine has `cuda` CUDA devices and, with `mps`, an Apple GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"), [(0, False, "cpu"), (0, True, "mps"), (1, False, "cuda"), (2, True, "cuda")]
)
def test_auto_selects_the_fastest(monkeypatch: pytest.MonkeyPatch, cuda: int, mps: bool, expected: str) -> None:
    pretend(monkeypatch, cuda=cuda, mps=mps)
    assert choose_device("auto") == torch.device(expected)


@pytest.mark.parametrize("name", ["cpu", "cuda", "cuda:0", "cuda:1", "mps"])
def test_a_device_name_selects_that_device(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    pretend(monkeypatch, cuda=2, mps=True)
    assert choose_device(name) == torch.device(name)


@pytest.mark.parametrize("name", ["gpu", "", "cuda:", "cuda:x", "cuda 1", "AUTO", "meta", "xpu"])
def test_no_such_device(name: str) -> None:
    with pytest.raises(ConfigError, match=r"does not exist: expected auto, cpu, cuda, cuda:1 or mps"):
        choose_device(name)


@pytest.mark.parametrize("name", ["cuda", "cuda:1", "mps"])
def test_a_device_that_this_machine_lacks(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    pretend(monkeypatch)
    with pytest.raises(ConfigError, match=rf"device={name} is not available .*device=auto or device=cpu"):
        choose_device(name)


def test_one_cuda_device_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, cuda=2)
    with pytest.raises(ConfigError, match="device=cuda:2 is not available"):
        choose_device("cuda:2")
