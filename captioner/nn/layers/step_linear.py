"""A linear layer used at every step of a recurrence, whose weight gradient is one product for all steps.

Autograd would multiply, and add, a whole weight gradient at each of the T steps: as much memory traffic as T
optimizer steps. The gradient is a sum over steps of products, and so a single product of what was collected:

    dW = Σ_t dy_tᵀ x_t = [dy_1; …; dy_T]ᵀ [x_1; …; x_T]

The numbers are the same up to the order of additions; the plain layer is the oracle in the tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

_Uses = list[tuple[Tensor, Tensor]]
"""(x_t, dy_t) of each use so far, in the order in which the backward pass meets them."""


class StepLinear(nn.Linear):
    """`nn.Linear`, and inside `deferred_weight_gradients` the same with one weight gradient for all its uses.

    `collects` False: always plain, as torch.compile needs it.
    """

    collects: bool = True
    _collecting: tuple[Tensor, _Uses] | None = None

    def forward(self, inputs: Tensor) -> Tensor:
        """(…, in) → (…, out)."""
        if self._collecting is None:
            return F.linear(inputs, self.weight, self.bias)
        weight, uses = self._collecting
        product: Tensor = _Use.apply(inputs, weight, uses)
        return product if self.bias is None else product + self.bias


@contextmanager
def deferred_weight_gradients(*modules: nn.Module) -> Iterator[None]:
    """Inside, every StepLinear of `modules` collects its uses. Does nothing where no gradient is wanted.

    Nor does it under autocast, where a layer's operands change their type between forward and backward,
    nor while compiling, which has its own ways.
    """
    layers = [
        layer for module in modules for layer in module.modules() if isinstance(layer, StepLinear) and layer.collects
    ]
    device = next((layer.weight.device.type for layer in layers), "cpu")
    if not torch.is_grad_enabled() or torch.is_autocast_enabled(device) or torch.compiler.is_compiling():
        layers = []
    try:
        for layer in layers:
            if layer.weight.requires_grad:
                uses: _Uses = []
                layer._collecting = (_HandOut.apply(layer.weight, uses), uses)
        yield
    finally:
        for layer in layers:
            layer._collecting = None


class _HandOut(torch.autograd.Function):
    """The weight as its uses see it; backward runs after all of theirs and multiplies what they collected."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, uses: _Uses) -> Tensor:
        ctx.set_materialize_grads(False)  # the uses pass no gradient on: they collect
        ctx.uses = uses
        return weight.view_as(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *_: Tensor | None) -> tuple[Tensor | None, None]:
        if not ctx.uses:
            return None, None
        inputs, gradients = (torch.cat(tensors) for tensors in zip(*ctx.uses, strict=True))
        ctx.uses.clear()
        return gradients.t() @ inputs, None


class _Use(torch.autograd.Function):
    """x·Wᵀ of one step."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, uses: _Uses) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        ctx.uses = uses
        return F.linear(inputs, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, None]:
        inputs, weight = ctx.saved_tensors
        columns = gradient.shape[-1]
        ctx.uses.append((inputs.reshape(-1, inputs.shape[-1]), gradient.reshape(-1, columns)))
        return (gradient @ weight if ctx.needs_input_grad[0] else None), None, None
