"""Products with copies of the weights against `nn.Linear`."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from captioner.nn.layers import linear
from captioner.nn.layers.linear import Linear, forget_changed_copies


def searched(layer: Linear, inputs: Tensor) -> Tensor:
    with torch.inference_mode():
        return layer(inputs).clone()


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("shape", [(1,), (2,), (3,), (64,), (1000,), (0,), (2, 3), (1, 1), ()])
def test_equals_the_ordinary_product(shape: tuple[int, ...], has_bias: bool) -> None:
    layer, inputs = Linear(128, 130, bias=has_bias), torch.randn(*shape, 128)
    expected = F.linear(inputs, layer.weight, layer.bias).detach()
    torch.testing.assert_close(searched(layer, inputs), expected, rtol=1e-5, atol=1e-5)
    assert (layer in linear._copies) == bool(inputs.numel())


@pytest.mark.parametrize("rows", [1, 5])
def test_sees_every_change_of_the_weight(rows: int) -> None:
    layer, inputs = Linear(128, 130), torch.randn(rows, 128)
    searched(layer, inputs)
    with torch.no_grad():
        layer.weight[3, 4] += 1.0  # in place
    torch.testing.assert_close(searched(layer, inputs), layer(inputs).detach(), rtol=1e-5, atol=1e-5)
    layer.load_state_dict({"weight": torch.randn(130, 128), "bias": torch.zeros(130)})
    torch.testing.assert_close(searched(layer, inputs), layer(inputs).detach(), rtol=1e-5, atol=1e-5)
    layer.load_state_dict({"weight": torch.randn(130, 128), "bias": torch.zeros(130)}, assign=True)
    torch.testing.assert_close(searched(layer, inputs), layer(inputs).detach(), rtol=1e-5, atol=1e-5)
    layer.weight.data = torch.randn(130, 128)
    torch.testing.assert_close(searched(layer, inputs), layer(inputs).detach(), rtol=1e-5, atol=1e-5)
    layer.weight.data.mul_(2)  # torch does not count this one
    forget_changed_copies(layer)
    torch.testing.assert_close(searched(layer, inputs), layer(inputs).detach(), rtol=1e-5, atol=1e-5)


def test_a_copy_of_the_layer_has_its_own_weights() -> None:
    layer, inputs = Linear(128, 130), torch.randn(3, 128)
    searched(layer, inputs)
    other = copy.deepcopy(layer)
    with torch.no_grad():
        other.weight.zero_()
    torch.testing.assert_close(searched(other, inputs), other.bias.expand(3, -1).detach())
    torch.testing.assert_close(searched(layer, inputs), layer(inputs).detach(), rtol=1e-5, atol=1e-5)


def test_other_products_are_the_ordinary_one() -> None:
    """With gradients, in float64, of few weights, under autocast, and of a weight made in inference mode."""
    layer, inputs = Linear(128, 130), torch.randn(3, 128)
    assert torch.equal(layer(inputs), F.linear(inputs, layer.weight, layer.bias))
    assert torch.equal(searched(layer.double(), inputs.double()), layer(inputs.double()))
    small = Linear(3, 4)
    assert torch.equal(searched(small, inputs[:, :3]), small(inputs[:, :3]))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert layer.float()(inputs).dtype == torch.bfloat16
    with torch.inference_mode():
        made = Linear(128, 130)
        assert torch.equal(made(inputs), F.linear(inputs, made.weight, made.bias))
    assert not any(module in linear._copies for module in (layer, small, made))


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("shape", [(1,), (40,), (2, 3)])
def test_large_products_have_the_ordinary_values_and_gradients(
    shape: tuple[int, ...], has_bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, inputs = Linear(128, 130, bias=has_bias), torch.randn(*shape, 128, requires_grad=True)
    expected = F.linear(inputs, layer.weight, layer.bias)
    upstream, wanted = torch.randn_like(expected), [inputs, *layer.parameters()]
    gradients = torch.autograd.grad(expected, wanted, upstream)
    monkeypatch.setattr(linear, "_LARGE", 1)
    product = layer(inputs)
    assert type(product.grad_fn).__name__ == "_ProductBackward"
    torch.testing.assert_close(product, expected, rtol=1e-5, atol=1e-5)
    for found, gradient in zip(torch.autograd.grad(product, wanted, upstream), gradients, strict=True):
        torch.testing.assert_close(found, gradient, rtol=1e-4, atol=1e-4)


def test_rounded_and_mixed_precision_products_are_never_onednn_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "_LARGE", 1)
    layer, inputs = Linear(128, 130), torch.randn(3, 128)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(inputs).dtype == torch.bfloat16
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "medium")
    assert torch.equal(layer(inputs), F.linear(inputs, layer.weight, layer.bias))
    assert torch.equal(layer.double()(inputs.double()), F.linear(inputs.double(), layer.weight, layer.bias))
