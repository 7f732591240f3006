"""Which device a process uses."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from captioner.distributed.ranks import RankInfo, rank_info
from captioner.errors import ConfigError

if TYPE_CHECKING:
    import torch

_NAMES = re.compile(r"auto|(cpu|cuda|mps)(:\d+)?")


def check_device_name(name: str) -> None:
    """ConfigError for a name that no machine has; does not import torch, so that a typo is reported at once."""
    if not _NAMES.fullmatch(name):
        raise ConfigError(f"device={name!r} does not exist: expected auto, cpu, cuda, cuda:1 or mps.")


def choose_device(name: str, rank: RankInfo | None = None) -> torch.device:
    """The device of this process: for "auto", CUDA if there is one, else Apple's MPS, else the CPU.

    rank: the process to choose for (default: this one); the processes of a machine use one GPU each.

    Raises ConfigError for a device that this machine does not have, or that several processes cannot share.
    """
    import torch

    check_device_name(name)
    rank = rank or rank_info()
    if rank.world_size > 1:
        return _device_of_rank(name, rank)
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    device = torch.device(name)
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not available.get(device.type, False):
        raise ConfigError(f"device={name} is not available on this machine: use device=auto or device=cpu.")
    return device


def _device_of_rank(name: str, rank: RankInfo) -> torch.device:
    """The CUDA device with the process's local rank, or the CPU."""
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        return torch.device("cpu")
    if name != "cuda":
        raise ConfigError(
            f"device={name} cannot be shared by several processes: use device=cuda, with which each process of a "
            "machine takes one GPU, or device=cpu."
        )
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if rank.local_world_size > gpus:
        raise ConfigError(
            f"{rank.local_world_size} processes on this machine need as many GPUs, and it has {gpus}: start fewer "
            "(trainer.devices, devices of evaluate.py, or torchrun's --nproc_per_node), or use device=cpu."
        )
    return torch.device("cuda", rank.local_rank)
