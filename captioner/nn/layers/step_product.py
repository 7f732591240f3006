"""Products of the steps of a recurrence with one shared tensor, whose gradient is one product over all steps.

    y_t = x_t S,   dS = Σ_t x_tᵀ dy_t = [x_1; …; x_T]ᵀ [dy_1; …; dy_T]

Autograd would compute and add a gradient of the size of S at each of the T steps. Here the steps' backward passes
collect x_t and dy_t, and the last one multiplies. The values are the same up to the order of additions.

A large weight of float32 on a CPU is copied once into the order in which oneDNN reads it, and its transpose once for
the backward pass: the steps' products of few rows are then a quarter faster.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from captioner.nn.layers.linear import in_order_of_onednn, is_plain, product_of_rows

_LARGE = 2**18  # elements of a weight, from which on its copies pay

_Uses = list[tuple[Tensor, Tensor]]
"""(x_t, dy_t) of each step, in the order in which the backward pass reaches them."""


class StepProduct:
    """x → x S, called once per step, for x (…, R, P) and S (…, P, D); with `transposed`, x Sᵀ for S (…, D, P)."""

    def __init__(self, shared: Tensor, *, transposed: bool = False) -> None:
        self._uses: _Uses = []
        self._transposed = transposed
        self._shared = _Shared.apply(shared, self._uses, transposed)
        copied = transposed and shared.dim() == 2 and shared.numel() >= _LARGE and is_plain(shared, shared)
        self._copies = _Copies(shared.detach()) if copied else None

    def __call__(self, inputs: Tensor) -> Tensor:
        """The product of one step."""
        product: Tensor = _Product.apply(inputs, self._shared, self._uses, self._transposed, self._copies)
        return product


class _Copies:
    """S and Sᵀ in the order of oneDNN, each copied at its first use."""

    def __init__(self, shared: Tensor) -> None:
        self._shared = shared

    @cached_property
    def forward(self) -> Tensor:
        """For x Sᵀ."""
        return in_order_of_onednn(self._shared)

    @cached_property
    def backward(self) -> Tensor:
        """For dy S."""
        return in_order_of_onednn(self._shared.t().contiguous())


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
    def forward(
        ctx: Any, inputs: Tensor, shared: Tensor, uses: _Uses, transposed: bool, copies: _Copies | None
    ) -> Tensor:
        ctx.save_for_backward(inputs, shared)
        ctx.uses, ctx.transposed, ctx.copies = uses, transposed, copies
        if copies is not None:
            return product_of_rows(inputs, copies.forward)
        return inputs @ (shared.transpose(-1, -2) if transposed else shared)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        inputs, shared = ctx.saved_tensors
        ctx.uses.append((inputs, gradient))
        if not ctx.needs_input_grad[0]:
            return None, None, None, None, None
        if ctx.copies is not None:
            return product_of_rows(gradient, ctx.copies.backward), None, None, None, None
        return gradient @ (shared if ctx.transposed else shared.transpose(-1, -2)), None, None, None, None
