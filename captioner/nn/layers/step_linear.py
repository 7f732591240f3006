"""A linear layer for the steps of a recurrence, whose weight gradient is one product over all steps.

Autograd would compute and add a whole weight gradient at each of the T steps, as much memory traffic as T optimizer
steps. The gradient is a sum of products over the steps, so it is also one product of what the steps collected:

    dW = Σ_t dy_tᵀ x_t = [dy_1; …; dy_T]ᵀ [x_1; …; x_T]

The values are those of `nn.Linear` up to the order of additions; the tests compare the two.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from captioner.nn.layers.linear import Linear

_Uses = list[tuple[Tensor, Tensor]]
"""(x_t, dy_t) of each use, in the order in which the backward pass reaches them."""


class StepLinear(Linear):
    """`Linear`; inside `deferred_weight_gradients` it has one weight gradient for all its uses.

    defers_gradients: False makes it an ordinary linear layer everywhere, as torch.compile requires.
    """

    defers_gradients: bool = True
    _collecting: tuple[Tensor, _Uses] | None = None

    def forward(self, inputs: Tensor) -> Tensor:
        """(…, in_features) → (…, out_features)."""
        if self._collecting is None:
            return super().forward(inputs)
        weight, uses = self._collecting
        product: Tensor = _StepProduct.apply(inputs, weight, uses)
        return product if self.bias is None else product + self.bias


@contextmanager
def deferred_weight_gradients(*modules: nn.Module) -> Iterator[None]:
    """Inside, every StepLinear of `modules` collects its uses for one weight gradient.

    It has no effect where gradients are disabled, under autocast, where the types of the operands differ between the
    forward and the backward pass, and under torch.compile.
    """
    layers = [
        layer
        for module in modules
        for layer in module.modules()
        if isinstance(layer, StepLinear) and layer.defers_gradients
    ]
    device = next((layer.weight.device.type for layer in layers), "cpu")
    if not torch.is_grad_enabled() or torch.is_autocast_enabled(device) or torch.compiler.is_compiling():
        layers = []
    try:
        for layer in layers:
            if layer.weight.requires_grad:
                uses: _Uses = []
                layer._collecting = (_SharedWeight.apply(layer.weight, uses), uses)
        yield
    finally:
        for layer in layers:
            layer._collecting = None


class _SharedWeight(torch.autograd.Function):
    """The weight that all steps use. Its backward runs after those of all steps and multiplies what they collected."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, uses: _Uses) -> Tensor:
        ctx.set_materialize_grads(False)  # the steps return no gradient of the weight: they collect
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


class _StepProduct(torch.autograd.Function):
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
