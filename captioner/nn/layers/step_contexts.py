"""Contexts of the steps of a recurrence, whose gradient of the grid is one product over all steps.

    z_t = α_t a,   da = Σ_t α_tᵀ dz_t = [α_1; …; α_T]ᵀ [dz_1; …; dz_T]

for each image. Autograd would compute and add a gradient of the whole grid at each of the T steps. Only a grid that is
learnt needs this: one that is mapped by a layer of the decoder's own, or that of an encoder that is trained.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from captioner.nn.layers.group_by_image import RowsByImage

_Uses = list[tuple[Tensor, Tensor]]
"""(α_t, dz_t) of each step, grouped by image, in the order in which the backward pass reaches them."""


class StepContexts:
    """Contexts of one batch of captions: one call per step; all calls share the grids of the batch's images."""

    def __init__(self, grid: Float[Tensor, "B P D"]) -> None:
        self._uses: _Uses | None = None
        self._grid = grid
        is_ordinary = torch.is_autocast_enabled(grid.device.type) or torch.compiler.is_compiling()
        if grid.requires_grad and torch.is_grad_enabled() and not is_ordinary:
            self._uses = []
            self._grid = _SharedGrid.apply(grid, self._uses)

    def __call__(self, weights: Float[Tensor, "N P"], rows: RowsByImage) -> Float[Tensor, "N D"]:
        """z of rows in any order; each grid is read once for all rows of its image."""
        grouped = rows.group(weights)
        if self._uses is None:
            return rows.ungroup(torch.bmm(grouped, self._grid))
        contexts: Tensor = _Contexts.apply(grouped, self._grid, self._uses)
        return rows.ungroup(contexts)


class _SharedGrid(torch.autograd.Function):
    """The grid that all steps use. Its backward runs after those of all steps and multiplies what they collected."""

    @staticmethod
    def forward(ctx: Any, grid: Tensor, uses: _Uses) -> Tensor:
        ctx.set_materialize_grads(False)  # the steps return no gradient of the grid: they collect
        ctx.uses = uses
        return grid.view_as(grid)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *_: Tensor | None) -> tuple[Tensor | None, None]:
        if not ctx.uses:
            return None, None
        weights, gradients = (torch.cat(tensors, dim=1) for tensors in zip(*ctx.uses, strict=True))
        ctx.uses.clear()
        return torch.bmm(weights.transpose(1, 2), gradients), None


class _Contexts(torch.autograd.Function):
    """α·a of one step, (B, R, P) and (B, P, D)."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, grid: Tensor, uses: _Uses) -> Tensor:
        ctx.save_for_backward(weights, grid)
        ctx.uses = uses
        return torch.bmm(weights, grid)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        weights, grid = ctx.saved_tensors
        ctx.uses.append((weights, gradient))
        return torch.bmm(gradient, grid.transpose(1, 2)), None, None
