"""Dropout against its definition."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from captioner.nn.layers.dropout import Dropout, dropout


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_an_element_is_dropped_with_probability_p_and_scaled_otherwise(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    inputs = torch.rand(101, 203, dtype=dtype) + 1
    outputs = Dropout(p)(inputs)
    kept = outputs != 0
    torch.testing.assert_close(outputs[kept], inputs[kept] / (1 - p), rtol=1e-4, atol=0)
    error = (p * (1 - p) / inputs.numel()) ** 0.5
    assert abs(float(kept.double().mean()) - (1 - p)) < 5 * error
    rows = kept.double()  # neighbors, of which four share one random number, are independent
    for distance in (1, 2, 3, 4, 203):
        flat = rows.flatten() - (1 - p)
        assert abs(float((flat[distance:] * flat[:-distance]).mean())) < 5 * p * (1 - p) / inputs.numel() ** 0.5
    places = kept.flatten()[: 4 * (kept.numel() // 4)].view(-1, 4).double().mean(0)  # within a random number
    assert (places - (1 - p)).abs().max() < 5 * 2 * error


def test_the_gradient_is_dropped_and_scaled_as_the_value() -> None:
    torch.manual_seed(0)
    inputs = torch.rand(7, 5, requires_grad=True)
    outputs = dropout(inputs, 0.3, True)
    outputs.sum().backward()
    assert inputs.grad is not None
    torch.testing.assert_close(inputs.grad * inputs.detach(), outputs.detach())


def test_one_seed_gives_one_result_and_draws_go_on() -> None:
    inputs = torch.ones(3, 70)
    results = []
    for _ in range(2):
        torch.manual_seed(3)
        results.append([dropout(inputs, 0.5, True) for _ in range(2)])
    (first, second), (again, _) = results
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("shape", [(), (1,), (0, 3), (2, 3, 5)])
def test_any_shape(shape: tuple[int, ...]) -> None:
    assert dropout(torch.ones(shape), 0.5, True).shape == shape


def test_without_training_or_dropout_the_inputs_are_returned() -> None:
    inputs = torch.rand(3, 4)
    assert Dropout(0.5).eval()(inputs) is inputs
    assert Dropout(0.0)(inputs) is inputs
    assert not Dropout(1.0)(inputs).any()


def test_other_types_are_torch_s() -> None:
    inputs = torch.ones(40, 50, dtype=torch.bfloat16)
    torch.manual_seed(0)
    found = dropout(inputs, 0.5, True)
    torch.manual_seed(0)
    assert torch.equal(found, F.dropout(inputs, 0.5))
