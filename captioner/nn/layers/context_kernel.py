"""Contexts of the steps of a recurrence where each image has one row: z_n = Σ_p w_np a_bp, b the image of row n.

A batched product of one row per image reads the grids at half the speed of memory, forward and backward, and those of
captions that have ended too. `context_kernel.c` (`compile_c`) reads the grids of the rows that are left, once. The
gradient of the grid is one product over all steps, as in `step_product`:

    da_b = Σ_t w_tᵀ dz_t
"""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from captioner.nn.layers.compile_c import compiling_is_allowed, load_c

_SOURCE = Path(__file__).with_name("context_kernel.c")
_TYPES = {torch.float32: "float32", torch.float64: "float64"}

_Uses = list[tuple[Tensor, Tensor, Tensor]]
"""(w, dz, images) of each step."""


class ContextKernels:
    """The functions of the library. All tensors are contiguous and of one type; images: (N,) int64."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library

    def contexts(self, grid: Tensor, weights: Tensor, images: Tensor) -> Tensor:
        """z (N, D) for a (B, P, D) and w (N, P)."""
        contexts = weights.new_empty(len(weights), grid.shape[2])
        self._call("contexts", grid, weights, images, contexts)
        return contexts

    def weight_gradients(self, grid: Tensor, gradient: Tensor, images: Tensor) -> Tensor:
        """dw (N, P) for a (B, P, D) and dz (N, D)."""
        weights = gradient.new_empty(len(gradient), grid.shape[1])
        self._call("weight_gradients", grid, gradient, images, weights)
        return weights

    def _call(self, name: str, grid: Tensor, given: Tensor, images: Tensor, found: Tensor) -> None:
        function = self._library[f"{_TYPES[grid.dtype]}_{name}"]
        pointers = [ctypes.c_void_p(tensor.data_ptr()) for tensor in (grid, given, images, found)]
        sizes = (len(given), grid.shape[1], grid.shape[2])
        function(*pointers, *map(ctypes.c_int64, sizes), ctypes.c_int(torch.get_num_threads()))


class ContextsOfRows:
    """Contexts of one batch of captions, one per image: one call per step."""

    def __init__(self, grid: Float[Tensor, "B P D"], kernels: ContextKernels) -> None:
        self._uses: _Uses = []
        self._kernels = kernels
        self._grid = _SharedGrid.apply(grid, self._uses)

    def __call__(self, weights: Float[Tensor, "N P"], images: Int[Tensor, " N"]) -> Float[Tensor, "N D"]:
        """z of N rows, each of another image."""
        contexts: Tensor = _Contexts.apply(weights, self._grid, images, self._uses, self._kernels)
        return contexts


class _SharedGrid(torch.autograd.Function):
    """The grid that all steps use. Its backward runs after those of all steps and multiplies what they collected."""

    @staticmethod
    def forward(ctx: Any, grid: Tensor, uses: _Uses) -> Tensor:
        ctx.set_materialize_grads(False)  # the steps return no gradient of the grid: they collect
        ctx.uses, ctx.images = uses, len(grid)
        return grid.view_as(grid)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *_: Tensor | None) -> tuple[Tensor | None, None]:
        if not ctx.uses:
            return None, None
        weights, gradients, positions = (
            torch.cat(tensors)
            for tensors in zip(
                *((w, dz, images * len(ctx.uses) + step) for step, (w, dz, images) in enumerate(ctx.uses)), strict=True
            )
        )
        by_image = [
            rows.new_zeros(ctx.images * len(ctx.uses), rows.shape[1])
            .index_copy_(0, positions, rows)
            .view(ctx.images, len(ctx.uses), -1)
            for rows in (weights, gradients)
        ]
        ctx.uses.clear()
        return torch.bmm(by_image[0].transpose(1, 2), by_image[1]), None


class _Contexts(torch.autograd.Function):
    """The contexts of one step."""

    @staticmethod
    def forward(
        ctx: Any, weights: Tensor, grid: Tensor, images: Tensor, uses: _Uses, kernels: ContextKernels
    ) -> Tensor:
        weights = weights.contiguous()
        ctx.save_for_backward(weights, grid, images)
        ctx.uses, ctx.kernels = uses, kernels
        return kernels.contexts(grid, weights, images)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, None, None, None]:
        weights, grid, images = ctx.saved_tensors
        gradient = gradient.contiguous()
        if ctx.needs_input_grad[1]:
            ctx.uses.append((weights, gradient, images))
        found = ctx.kernels.weight_gradients(grid, gradient, images) if ctx.needs_input_grad[0] else None
        return found, None, None, None, None


def context_kernels(grid: Tensor) -> ContextKernels | None:
    """The compiled functions for this grid, or None where they cannot be had."""
    fits = grid.device.type == "cpu" and grid.dtype in _TYPES and grid.is_contiguous()
    return _load() if fits and compiling_is_allowed() else None


@functools.cache
def _load() -> ContextKernels | None:
    library = load_c(_SOURCE, _is_right)
    return None if library is None else ContextKernels(library)


def _is_right(library: ctypes.CDLL) -> bool:
    """Whether the values of a small example are those of the equations."""
    kernels, images = ContextKernels(library), torch.tensor([2, 0])
    grid = torch.linspace(-2, 2, 3 * 7 * 37).cos().view(3, 7, 37)
    weights, gradient = torch.linspace(-1, 1, 14).view(2, 7), torch.linspace(1, -1, 74).view(2, 37)
    expected = torch.bmm(weights.unsqueeze(1), grid[images]).squeeze(1), (grid[images] @ gradient.unsqueeze(2))
    found = kernels.contexts(grid, weights, images), kernels.weight_gradients(grid, gradient, images).unsqueeze(2)
    return all(torch.allclose(one, other, atol=1e-4) for one, other in zip(found, expected, strict=True))
