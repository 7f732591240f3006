"""Contexts with a deferred gradient of the grid against autograd."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from captioner.nn.layers.attention import context_of_rows
from captioner.nn.layers.group_by_image import rows_of_captions
from captioner.nn.layers.step_contexts import StepContexts
from captioner.nn.packing import PackedCaptions, pack_captions

LAYOUT = pack_captions([[[4, 5, 6], [7]], [], [[8, 9]]])  # an image without captions, one with two
ONE_EACH = pack_captions([[[4, 5, 6]], [], [[8, 9, 4, 4, 7]]])  # rows whose contexts are computed one by one


def gradients(is_deferred: bool, grid_is_learnt: bool = True, layout: PackedCaptions = LAYOUT) -> list[Tensor]:
    """The contexts of all steps, and the gradients of a weighted sum of them."""
    generator = torch.Generator().manual_seed(1)
    grid = torch.randn(3, 5, 4, dtype=torch.float64, generator=generator).requires_grad_(grid_is_learnt)
    rows = rows_of_captions(layout, 3)
    weights = [torch.randn(n, 5, dtype=torch.float64, generator=generator).requires_grad_() for n in layout.batch_sizes]
    step = StepContexts(grid) if is_deferred else lambda weights, rows: context_of_rows(weights, grid, rows)
    contexts = [step(weight, rows.first_rows(len(weight))) for weight in weights]
    factors = [torch.randn(context.shape, dtype=torch.float64, generator=generator) for context in contexts]
    total = torch.stack([(context * factor).sum() for context, factor in zip(contexts, factors, strict=True)]).sum()
    inputs = [grid, *weights] if grid_is_learnt else weights
    first = torch.autograd.grad(total, inputs, retain_graph=True)
    second = torch.autograd.grad(total, inputs)
    assert all(map(torch.equal, first, second)), "nothing is left from the first backward pass"
    return [*contexts, *first]


@pytest.mark.parametrize("layout", [LAYOUT, ONE_EACH], ids=["two captions", "one each"])
@pytest.mark.parametrize("grid_is_learnt", [True, False])
@pytest.mark.parametrize("may_compile", [True, False])
def test_equals_autograd(
    may_compile: bool, grid_is_learnt: bool, layout: PackedCaptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAPTIONER_COMPILE", "1" if may_compile else "0")
    found, expected = (gradients(is_deferred, grid_is_learnt, layout) for is_deferred in (True, False))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_under_autocast_it_is_the_ordinary_product() -> None:
    grid, rows = torch.randn(3, 5, 4, requires_grad=True), rows_of_captions(LAYOUT, 3)
    with torch.autocast("cpu", torch.bfloat16):
        contexts = StepContexts(grid)(torch.randn(3, 5), rows)
    assert contexts.dtype == torch.bfloat16
    contexts.float().sum().backward()
    assert grid.grad is not None
