"""Contexts of the steps of a recurrence, z_t = α_t a, whose gradient of the grid is one product over all steps.

Only a grid that is learnt has one: one that is mapped by a layer of the decoder's own, or that of an encoder that is
trained. Where each image has one caption, the contexts are computed row by row (`context_kernel`).
"""

from __future__ import annotations

from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from captioner.nn.layers.context_kernel import ContextsOfRows, context_kernels
from captioner.nn.layers.group_by_image import RowsByImage
from captioner.nn.layers.step_product import StepProduct


class StepContexts:
    """Contexts of one batch of captions: one call per step; all calls share the grids of the batch's images."""

    def __init__(self, grid: Float[Tensor, "B P D"]) -> None:
        self._grid = grid
        self._is_ordinary = torch.is_autocast_enabled(grid.device.type) or torch.compiler.is_compiling()

    def __call__(self, weights: Float[Tensor, "N P"], rows: RowsByImage) -> Float[Tensor, "N D"]:
        """z of rows in any order; each grid is read once for all rows of its image."""
        if rows.rows_per_image == 1 and self._of_rows is not None and weights.dtype == self._grid.dtype:
            return self._of_rows(weights, rows.images)
        grouped = rows.group(weights)
        return rows.ungroup(torch.bmm(grouped, self._grid) if self._product is None else self._product(grouped))

    @cached_property
    def _of_rows(self) -> ContextsOfRows | None:
        kernels = None if self._is_ordinary else context_kernels(self._grid)
        return None if kernels is None else ContextsOfRows(self._grid, kernels)

    @cached_property
    def _product(self) -> StepProduct | None:
        collects = self._grid.requires_grad and torch.is_grad_enabled() and not self._is_ordinary
        return StepProduct(self._grid) if collects else None
