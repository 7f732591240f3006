"""Which device a run uses."""

from __future__ import annotations

import torch

from captioner.errors import ConfigError


def choose_device(name: str) -> torch.device:
    """ "auto": CUDA, then Apple's MPS, then the CPU; otherwise the named one, checked (ConfigError)."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device={name!r} does not exist: expected auto, cpu, cuda, cuda:1 or mps.") from error
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not available.get(device.type, False):
        raise ConfigError(f"device={name} is not available on this machine: use device=auto or device=cpu.")
    return device
