"""The fast energies against the equation, written plainly and differentiated by autograd."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from captioner.nn import attention_energy
from captioner.nn.attention_energy import StepEnergies


def losses_and_gradients(sizes: list[int], images: int, cells: int, width: int, fast: bool) -> list[Tensor]:
    """Energies of a few steps and every gradient of a weighted sum of them."""
    generator = torch.Generator().manual_seed(3)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    keys, score = draw(images, cells, width).requires_grad_(), draw(width).requires_grad_()
    queries = [draw(size, width).requires_grad_() for size in sizes]
    looked = [torch.randint(images, (size,), generator=generator) for size in sizes]
    weights = [draw(size, cells) for size in sizes]
    step = StepEnergies(keys, score) if fast else None
    energies = [
        step(query, rows) if step else torch.tanh(keys[rows] + query.unsqueeze(1)) @ score
        for query, rows in zip(queries, looked, strict=True)
    ]
    total = torch.stack([(energy * weight).sum() for energy, weight in zip(energies, weights, strict=True)]).sum()
    gradients = torch.autograd.grad(total, [keys, score, *queries])
    return [*(energy.detach() for energy in energies), *gradients]


@given(
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    images=st.integers(1, 4),
    cells=st.integers(1, 6),
    width=st.integers(1, 5),
    at_once=st.sampled_from([1, 40, 10_000]),
)
@settings(max_examples=40, deadline=None)
def test_equals_the_equation(sizes: list[int], images: int, cells: int, width: int, at_once: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention_energy, "_NUMBERS_AT_ONCE", at_once)
        found = losses_and_gradients(sizes, images, cells, width, fast=True)
    for tensor, expected in zip(found, losses_and_gradients(sizes, images, cells, width, fast=False), strict=True):
        torch.testing.assert_close(tensor, expected, rtol=1e-12, atol=1e-12)


def test_backward_twice_gives_the_same_twice() -> None:
    keys = torch.randn(2, 3, 4, requires_grad=True)
    energies = StepEnergies(keys, torch.randn(4))(torch.randn(5, 4), torch.tensor([0, 1, 1, 0, 1])).sum()
    (first,) = torch.autograd.grad(energies, [keys], retain_graph=True)
    (second,) = torch.autograd.grad(energies, [keys])
    assert torch.equal(first, second)
