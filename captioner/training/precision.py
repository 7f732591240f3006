"""In which number format the products of training are done; weights, sums and losses stay in float32.

bfloat16 and float16 make products' results as short as their operands (autocast). `fast_float32` leaves every tensor in
float32 and lets the processor round the operands of matrix products alone: to TensorFloat-32 on a GPU, to bfloat16 on
a CPU with units for it, not at all elsewhere. Their sums, and all between two products, keep float32's digits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TypeVar

import torch

from captioner.errors import ConfigError

T = TypeVar("T")
_TYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def check_precision(precision: str, device: torch.device) -> None:
    """ConfigError where the device cannot train in this format."""
    if precision == "float16" and device.type == "cpu":
        raise ConfigError(
            "trainer.precision=float16 needs a GPU: a CPU has no fast products of this format. "
            "Use bfloat16, which keeps float32's range, or float32."
        )
    if (
        precision == "bfloat16"
        and device.type == "cuda"
        and not torch.cuda.is_bf16_supported(including_emulation=False)
    ):
        raise ConfigError(
            f"trainer.precision=bfloat16 needs a newer GPU than {torch.cuda.get_device_name(device)}, which would only "
            "imitate it, and slowly. Use float16, which it has, or float32."
        )


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Inside, matrix products and convolutions are done in `precision` (Micikevicius et al. 2018)."""
    if precision not in _TYPES:
        return nullcontext()
    return torch.autocast(device.type, _TYPES[precision])


@contextmanager
def fast_products(precision: str) -> Iterator[None]:
    """Inside, with `fast_float32`, the operands of float32 products may be rounded; then as it was before.

    Forward and backward pass must both be inside: torch asks at each product.
    """
    before = torch.get_float32_matmul_precision()
    if precision == "fast_float32":
        torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def iterate_under(items: Iterable[T], precision: str, device: torch.device) -> Iterator[T]:
    """The items, each made inside `autocast`: for generators that compute, as features of a learning encoder do."""
    iterator = iter(items)
    while True:
        with autocast(precision, device):
            try:
                item = next(iterator)
            except StopIteration:
                return
        yield item


def build_scaler(precision: str, device: torch.device) -> torch.amp.GradScaler:
    """What keeps float16's small gradients from vanishing, by making the loss larger; without effect otherwise."""
    return torch.amp.GradScaler(device.type, enabled=precision == "float16")
