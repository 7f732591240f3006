"""Products of the steps of a recurrence with one shared tensor, whose gradient is one product over all steps.

    y_t = x_t S,   dS = Σ_t x_tᵀ dy_t = [x_1; …; x_T]ᵀ [dy_1; …; dy_T]

Autograd would compute and add a gradient of the size of S at each of the T steps. Here the steps' backward passes
collect x_t and dy_t, and the last one multiplies. The values are the same up to the order of additions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_Uses = list[tuple[Tensor, Tensor]]
"""(x_t, dy_t) of each step, in the order in which the backward pass reaches them."""


class StepProduct:
    """x → x S, called once per step, for x (…, R, P) and S (…, P, D); with `transposed`, x Sᵀ for S (…, D, P)."""

    def __init__(self, shared: Tensor, *, transposed: bool = False) -> None:
        self._uses: _Uses = []
        self._transposed = transposed
        self._shared = _Shared.apply(shared, self._uses, transposed)

    def __call__(self, inputs: Tensor) -> Tensor:
        """The product of one step."""
        product: Tensor = _Product.apply(inputs, self._shared, self._uses, self._transposed)
        return product


class _Shared(torch.autograd.Function):
    """S. Its backward runs after those of all steps and multiplies what they collected."""

    @staticmethod
    def forward(ctx: Any, shared: Tensor, uses: _Uses, transposed: bool) -> Tensor:
        ctx.set_materialize_grads(False)  # the steps return no gradient of S: they collect
        ctx.uses, ctx.transposed = uses, transposed
        return shared.view_as(shared)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *_: Tensor | None) -> tuple[Tensor | None, None, None]:
        if not ctx.uses:
            return None, None, None
        inputs, gradients = (torch.cat(tensors, dim=-2) for tensors in zip(*ctx.uses, strict=True))
        ctx.uses.clear()
        left, right = (gradients, inputs) if ctx.transposed else (inputs, gradients)
        return left.transpose(-1, -2) @ right, None, None


class _Product(torch.autograd.Function):
    """The product of one step."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, shared: Tensor, uses: _Uses, transposed: bool) -> Tensor:
        ctx.save_for_backward(inputs, shared)
        ctx.uses, ctx.transposed = uses, transposed
        return inputs @ (shared.transpose(-1, -2) if transposed else shared)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, None, None]:
        inputs, shared = ctx.saved_tensors
        ctx.uses.append((inputs, gradient))
        if not ctx.needs_input_grad[0]:
            return None, None, None, None
        return gradient @ (shared if ctx.transposed else shared.transpose(-1, -2)), None, None, None
