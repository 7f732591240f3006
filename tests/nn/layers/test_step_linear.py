"""One weight gradient for all steps equals autograd's sum over the steps."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn

from captioner.nn.layers import step_product
from captioner.nn.layers.step_linear import StepLinear, deferred_weight_gradients


def recurrence(layer: nn.Linear, steps: int, once: bool) -> tuple[Tensor, list[Tensor]]:
    """The value and all gradients of a small recurrence with decreasing numbers of rows."""
    start = torch.linspace(-1, 1, 15, dtype=torch.float64).view(3, 5).requires_grad_()
    layer.zero_grad()
    with deferred_weight_gradients(layer) if once else nullcontext():
        hidden = start
        for step in range(steps):
            hidden = torch.tanh(layer(hidden[: 3 - step % 2]))
    value = hidden.pow(2).sum()
    value.backward()
    gradients = [start.grad, *(parameter.grad for parameter in layer.parameters())]
    return value.detach(), [gradient.clone() for gradient in gradients if gradient is not None]


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("bias", [True, False])
def test_values_and_gradients_are_those_of_the_plain_layer(steps: int, bias: bool) -> None:
    torch.manual_seed(0)
    layer = StepLinear(5, 5, bias=bias).double()
    (plain, expected), (value, gradients) = (recurrence(layer, steps, once) for once in (False, True))
    assert torch.equal(value, plain)
    assert len(gradients) == len(expected) == 2 + bias
    for gradient, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-12, atol=1e-14)


def test_a_second_backward_pass_gives_the_same_gradients() -> None:
    layer = StepLinear(4, 4).double()
    with deferred_weight_gradients(layer):
        value = layer(torch.tanh(layer(torch.ones(2, 4, dtype=torch.float64)))).sum()
    (first,) = torch.autograd.grad(value, [layer.weight], retain_graph=True)
    (second,) = torch.autograd.grad(value, [layer.weight])
    assert torch.equal(first, second)


def test_without_gradients_and_under_autocast_the_layer_is_plain() -> None:
    layer = StepLinear(4, 4)
    with torch.no_grad(), deferred_weight_gradients(layer):
        assert layer._product is None
    with torch.autocast("cpu", torch.bfloat16), deferred_weight_gradients(layer):
        assert layer(torch.ones(2, 4)).dtype == torch.bfloat16
    with deferred_weight_gradients(layer):
        assert layer._product is not None
    assert layer._product is None


def test_a_frozen_weight_stays_plain() -> None:
    layer = StepLinear(4, 4).requires_grad_(False)
    inputs = torch.ones(2, 4, requires_grad=True)
    with deferred_weight_gradients(layer):
        layer(inputs).sum().backward()
    assert layer.weight.grad is None
    assert inputs.grad is not None


@pytest.mark.parametrize("bias", [True, False])
def test_copies_of_a_large_weight_give_the_same_values_and_gradients(
    bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    layer, inputs = StepLinear(64, 96, bias=bias), [torch.randn(rows, 64, requires_grad=True) for rows in (5, 5, 2, 1)]
    upstream = [torch.randn(len(rows), 96) for rows in inputs]
    wanted = [*inputs, *layer.parameters()]
    found = []
    for large in (2**60, 1):
        monkeypatch.setattr(step_product, "_LARGE", large)
        with deferred_weight_gradients(layer):
            outputs = [layer(rows) for rows in inputs]
            assert layer._product is not None
            assert (layer._product._copies is None) == (large > 1)
        found.append([*outputs, *torch.autograd.grad(outputs, wanted, upstream)])
    for value, other in zip(*found, strict=True):
        torch.testing.assert_close(value, other, rtol=1e-5, atol=1e-5)
