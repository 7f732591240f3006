"""The fast energies against the equation, with gradients by autograd."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from captioner.nn.layers import additive_kernel as attention_energy
from captioner.nn.layers.additive_kernel import (
    ExponentialKeys,
    StepEnergies,
    energies_in_blocks,
    exponential_keys,
)
from captioner.nn.layers.attention import AdditiveAttention
from captioner.nn.layers.group_by_image import rows_of_captions
from captioner.nn.packing import pack_captions


def losses_and_gradients(sizes: list[int], images: int, cells: int, width: int, fast: bool) -> list[Tensor]:
    """The energies of a few steps, and all gradients of a weighted sum of them."""
    generator = torch.Generator().manual_seed(3)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    keys, score = draw(images, cells, width).requires_grad_(), draw(width).requires_grad_()
    queries = [draw(size, width).requires_grad_() for size in sizes]
    image_of_row = [torch.randint(images, (size,), generator=generator) for size in sizes]
    weights = [draw(size, cells) for size in sizes]
    step = StepEnergies(keys, score) if fast else None
    energies = [
        step(query, rows) if step else torch.tanh(keys[rows] + query.unsqueeze(1)) @ score
        for query, rows in zip(queries, image_of_row, strict=True)
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
    largest=st.sampled_from([0.0, 0.5, 40.0]),
    is_compiled=st.booleans(),
)
@settings(max_examples=80, deadline=None)
def test_equals_the_equation(
    sizes: list[int], images: int, cells: int, width: int, at_once: int, largest: float, is_compiled: bool
) -> None:
    """Compiled or not, with exponentials or not: |k| ≤ `largest` decides (0: never, 0.5: now and then)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention_energy, "_LARGEST", largest)
        patch.setenv("CAPTIONER_COMPILE", str(int(is_compiled)))
        patch.setattr(attention_energy, "_BLOCK_ELEMENTS", at_once)
        found = losses_and_gradients(sizes, images, cells, width, fast=True)
    for tensor, expected in zip(found, losses_and_gradients(sizes, images, cells, width, fast=False), strict=True):
        torch.testing.assert_close(tensor, expected, rtol=1e-12, atol=1e-12)


@given(
    images=st.integers(1, 4),
    each=st.integers(1, 3),
    cells=st.integers(1, 6),
    width=st.integers(1, 5),
    at_once=st.sampled_from([1, 40, 10_000]),
)
@settings(max_examples=40, deadline=None)
def test_without_a_gradient_too(images: int, each: int, cells: int, width: int, at_once: int) -> None:
    attention = AdditiveAttention(3, 3, width).double()
    generator = torch.Generator().manual_seed(3)
    keys = torch.randn(images, cells, width, dtype=torch.float64, generator=generator)
    queries = torch.randn(images * each, width, dtype=torch.float64, generator=generator)
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(attention_energy, "_BLOCK_ELEMENTS", at_once)
        found = attention.energies(keys, queries)
        assert found.grad_fn is None
    torch.testing.assert_close(found, attention.reference_energies(keys, queries).detach(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", [0.01, 1.0, 30.0])
def test_float32_is_as_close_to_the_equation_as_tanh_is(size: float) -> None:
    """For small arguments, where 2σ − 1 is less precise than tanh, and for large ones, where both are ±1."""
    generator = torch.Generator().manual_seed(0)
    keys, query = (size * torch.randn(shape, generator=generator) for shape in ((2, 50, 64), (4, 64)))
    score, images = torch.randn(64, generator=generator), torch.tensor([0, 1, 1, 0])
    exact = torch.tanh(keys.double()[images] + query.double().unsqueeze(1)) @ score.double()
    exponential = exponential_keys(keys)
    assert (exponential is None) == (size == 30.0), "30 times a normal variable exceeds 40"
    for known in [keys] if exponential is None else [keys, exponential]:
        found = energies_in_blocks(known, score, query, images)
        assert float((found - exact).abs().max()) < 1e-6 * float(score.abs().sum())


@pytest.mark.parametrize("is_compiled", [False, True])
@pytest.mark.parametrize("key", [-40.0, -39.0, 0.0, 40.0])
@pytest.mark.parametrize("query", [-1e30, -95.0, -41.0, -39.0, 0.5, 39.5, 41.0, 95.0, 1e30, float("nan")])
def test_large_numbers_saturate(key: float, query: float, is_compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where an exponential, or the product of two, leaves the range of float32."""
    monkeypatch.setenv("CAPTIONER_COMPILE", str(int(is_compiled)))
    keys = exponential_keys(torch.full((1, 2, 3), key))
    assert keys is not None
    found = energies_in_blocks(keys, torch.ones(3), torch.full((1, 3), query), torch.tensor([0]))
    expected = 3 * torch.tanh(torch.full((1, 2), key) + query)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5, equal_nan=True)


def test_keys_that_are_too_large_or_not_numbers_stay_as_they_are() -> None:
    assert exponential_keys(torch.tensor([[[0.0, 40.5]]])) is None
    assert exponential_keys(torch.tensor([[[0.0, float("nan")]]])) is None


@pytest.mark.parametrize("is_compiled", [False, True])
def test_the_form_that_a_search_keeps_gives_the_same_energies(
    is_compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAPTIONER_COMPILE", str(int(is_compiled)))
    attention = AdditiveAttention(3, 3, 37)
    keys, queries = torch.randn(2, 5, 37), torch.randn(6, 37)
    expected = attention.reference_energies(keys, queries).detach()
    with torch.inference_mode():
        known = attention.search_keys(keys)
        assert isinstance(known, ExponentialKeys)
        torch.testing.assert_close(attention.energies(known, queries), expected, rtol=1e-5, atol=1e-5)
    assert attention.search_keys(keys) is keys, "only a search keeps them so"


def test_a_second_backward_pass_gives_the_same_gradients() -> None:
    keys = torch.randn(2, 3, 4, requires_grad=True)
    energies = StepEnergies(keys, torch.randn(4))(torch.randn(5, 4), torch.tensor([0, 1, 1, 0, 1])).sum()
    (first,) = torch.autograd.grad(energies, [keys], retain_graph=True)
    (second,) = torch.autograd.grad(energies, [keys])
    assert torch.equal(first, second)


def test_teacher_forcing_on_a_cpu_uses_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    attention, layout = AdditiveAttention(3, 3, 37), pack_captions([[[4, 5]], [[6], [7]]])
    keys, queries = torch.randn(2, 5, 37), torch.randn(3, 37)
    expected = attention.reference_energies(keys[layout.images], queries)
    monkeypatch.setattr(AdditiveAttention, "reference_energies", None)
    found = attention.batch_energies(keys)(queries, rows_of_captions(layout, 2))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
