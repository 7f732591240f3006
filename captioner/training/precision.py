"""Mixed precision and the precision of float32 matrix products; weights, sums and losses stay in float32.

`trainer.precision=bfloat16` or `float16` computes matrix products and convolutions under autocast, with results in that
type. `trainer.float32_matmul_precision` keeps every tensor in float32 and lets PyTorch round the operands of float32
matrix products: to TensorFloat-32 on a GPU, to bfloat16 on a CPU that has instructions for it. Products are still
summed in float32.
"""

from __future__ import annotations

import functools
import math
import platform
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TypeVar

import torch

from captioner.errors import ConfigError

T = TypeVar("T")
_TRIALS = 8
_TYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def check_precision(precision: str, device: torch.device) -> None:
    """Raise ConfigError if `device` cannot train with `trainer.precision=precision`."""
    if precision == "float16" and device.type == "cpu":
        raise ConfigError(
            "trainer.precision=float16 needs a GPU: CPUs have no fast float16 products. Use bfloat16, which has "
            "the range of float32, or float32."
        )
    if (
        precision == "bfloat16"
        and device.type == "cuda"
        and not torch.cuda.is_bf16_supported(including_emulation=False)
    ):
        raise ConfigError(
            f"trainer.precision=bfloat16 needs a newer GPU than {torch.cuda.get_device_name(device)}, which would "
            "emulate it slowly. Use float16, which this GPU supports, or float32."
        )


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """A context in which matrix products and convolutions are computed in `precision` (Micikevicius et al. 2018)."""
    if precision not in _TYPES:
        return nullcontext()
    return torch.autocast(device.type, _TYPES[precision])


@contextmanager
def float32_matmul_precision(precision: str, device: torch.device | None = None) -> Iterator[None]:
    """A context with `torch.set_float32_matmul_precision(precision)`; the previous setting is restored at the end.

    `precision`: highest, high or medium. `device`: where the products are computed; on a CPU on which rounding is not
    faster, it is highest, because PyTorch would emulate the missing instructions; None: without asking. PyTorch reads
    the setting at every product, so both the forward and the backward pass belong inside.
    """
    if device is not None and device.type == "cpu" and precision != "highest" and not is_faster_when_rounded(precision):
        precision = "highest"
    with _torch_setting(precision):
        yield


@contextmanager
def _torch_setting(precision: str) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@functools.cache
def is_faster_when_rounded(precision: str) -> bool:
    """Whether this CPU multiplies faster with `precision`: it needs instructions for bfloat16, and a trial.

    The trial takes some milliseconds, once per process: products of a training step's size, in turns, the fastest of
    several each, so that other programs hardly matter.
    """
    if not has_bfloat16_units():
        return False
    left, right = torch.ones(128, 512), torch.ones(512, 2048)
    fastest = dict.fromkeys(("highest", precision), math.inf)
    for _ in range(_TRIALS):
        for setting in fastest:
            with _torch_setting(setting):
                start = time.perf_counter()
                torch.mm(left, right)
                fastest[setting] = min(fastest[setting], time.perf_counter() - start)
    return fastest[precision] < fastest["highest"]


def has_bfloat16_units() -> bool:
    """Whether the CPU has instructions for products of bfloat16, and PyTorch uses them."""
    if platform.machine().lower() in ("x86_64", "amd64"):
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return bool(torch._C._has_mkldnn and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def iterate_with_autocast(items: Iterable[T], precision: str, device: torch.device) -> Iterator[T]:
    """Yield the items, computing each under `autocast`: for generators that run a model, as trainable encoders do."""
    iterator = iter(items)
    while True:
        with autocast(precision, device):
            try:
                item = next(iterator)
            except StopIteration:
                return
        yield item


def build_scaler(precision: str, device: torch.device) -> torch.amp.GradScaler:
    """A gradient scaler, which keeps small float16 gradients from underflowing; disabled for other precisions."""
    return torch.amp.GradScaler(device.type, enabled=precision == "float16")
