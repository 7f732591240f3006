"""Contexts of the steps of a recurrence, z_t = α_t a, whose gradient of the grid is one product over all steps.

Only a grid that is learnt has one: one that is mapped by a layer of the decoder's own, or that of an encoder that is
trained.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from captioner.nn.layers.group_by_image import RowsByImage
from captioner.nn.layers.step_product import StepProduct


class StepContexts:
    """Contexts of one batch of captions: one call per step; all calls share the grids of the batch's images."""

    def __init__(self, grid: Float[Tensor, "B P D"]) -> None:
        self._grid = grid
        is_ordinary = torch.is_autocast_enabled(grid.device.type) or torch.compiler.is_compiling()
        collects = grid.requires_grad and torch.is_grad_enabled() and not is_ordinary
        self._product = StepProduct(grid) if collects else None

    def __call__(self, weights: Float[Tensor, "N P"], rows: RowsByImage) -> Float[Tensor, "N D"]:
        """z of rows in any order; each grid is read once for all rows of its image."""
        grouped = rows.group(weights)
        return rows.ungroup(torch.bmm(grouped, self._grid) if self._product is None else self._product(grouped))
