"""Contexts of single rows in C against the equations."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from captioner.nn.layers import context_kernel
from captioner.nn.layers.context_kernel import ContextsOfRows, context_kernels
from captioner.nn.layers.group_by_image import rows_of_captions
from captioner.nn.layers.step_contexts import StepContexts
from captioner.nn.packing import pack_captions
from tests.nn.layers.compiled import assert_wrong_libraries_are_not_used, needs_compiler

pytestmark = needs_compiler


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("regions", "dim"), [(1, 1), (3, 5), (4, 16), (7, 33), (49, 100)])
def test_the_functions_are_the_equations(regions: int, dim: int, dtype: torch.dtype) -> None:
    grid, images = torch.randn(6, regions, dim, dtype=dtype), torch.tensor([4, 0, 5])
    weights, gradient = torch.randn(3, regions, dtype=dtype), torch.randn(3, dim, dtype=dtype)
    kernels = context_kernels(grid)
    assert kernels is not None
    contexts = torch.einsum("np,npd->nd", weights, grid[images])
    torch.testing.assert_close(kernels.contexts(grid, weights, images), contexts, rtol=1e-4, atol=1e-4)
    slopes = torch.einsum("nd,npd->np", gradient, grid[images])
    torch.testing.assert_close(kernels.weight_gradients(grid, gradient, images), slopes, rtol=1e-4, atol=1e-4)


def test_the_number_of_threads_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    grid, images = torch.randn(9, 7, 100), torch.randperm(9)
    weights, gradient = torch.randn(9, 7), torch.randn(9, 100)
    kernels = context_kernels(grid)
    assert kernels is not None
    results = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda count=threads: count)
        results.append([kernels.contexts(grid, weights, images), kernels.weight_gradients(grid, gradient, images)])
    for result in results[1:]:
        assert all(map(torch.equal, result, results[0]))


def test_is_used_where_each_image_has_one_caption(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[int] = []
    call = ContextsOfRows.__call__

    def counted(self: ContextsOfRows, weights: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        used.append(len(weights))
        return call(self, weights, images)

    monkeypatch.setattr(ContextsOfRows, "__call__", counted)
    grid = torch.randn(2, 5, 4)
    for captions, expected in (([[[4, 5]], [[6]]], [2]), ([[[4, 5], [6]], [[7]]], [])):
        rows = rows_of_captions(pack_captions(captions), 2)
        used.clear()
        StepContexts(grid)(torch.randn(len(rows.images), 5), rows)
        assert used == expected
    rows = rows_of_captions(pack_captions([[[4, 5]], [[6]]]), 2)
    used.clear()
    StepContexts(grid.transpose(0, 1).contiguous().transpose(0, 1))(torch.randn(2, 5), rows)  # not contiguous
    monkeypatch.setenv("CAPTIONER_COMPILE", "0")
    StepContexts(grid)(torch.randn(2, 5), rows)
    assert not used


def test_a_library_that_computes_something_else_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mistakes = {"w[3] * a[d + 3 * dim]": "w[3] * a[d]", "sum += a[d] * dz[d]": "sum += a[d]"}
    load = context_kernel._load.__wrapped__
    assert_wrong_libraries_are_not_used(context_kernel, load, mistakes, monkeypatch, tmp_path)
