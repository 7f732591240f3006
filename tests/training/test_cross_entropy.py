"""The memory-efficient loss against `torch.nn.functional.cross_entropy`, and by finite differences."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from captioner.training.cross_entropy import memory_efficient_cross_entropy


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_equals_cross_entropy(smoothing: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    values, targets = (3 * torch.randn(7, 11)).to(dtype), torch.randint(11, (7,))
    logits, oracle = values.clone().requires_grad_(), values.clone().requires_grad_()
    loss = memory_efficient_cross_entropy(logits, targets, smoothing)
    expected = F.cross_entropy(
        oracle.float() if dtype == torch.bfloat16 else oracle, targets, reduction="sum", label_smoothing=smoothing
    )
    (0.5 * loss).backward()
    (0.5 * expected).backward()
    assert logits.grad is not None
    assert oracle.grad is not None
    assert logits.grad.dtype == dtype
    tight = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 1e-2}[dtype]
    torch.testing.assert_close(loss, expected, rtol=tight, atol=tight)
    torch.testing.assert_close(logits.grad, oracle.grad, rtol=tight, atol=tight)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_gradient_by_finite_differences(smoothing: float) -> None:
    logits, targets = torch.randn(4, 5, dtype=torch.float64, requires_grad=True), torch.tensor([0, 4, 2, 2])
    (found,) = torch.autograd.grad(memory_efficient_cross_entropy(logits, targets, smoothing), [logits])
    small = 1e-6
    for place in range(logits.numel()):
        nudge = torch.zeros(logits.numel(), dtype=torch.float64)
        nudge[place] = small
        above, below = (
            memory_efficient_cross_entropy(logits.detach() + sign * nudge.view(4, 5), targets, smoothing)
            for sign in (1, -1)
        )
        assert float(found.view(-1)[place]) == pytest.approx(float(above - below) / (2 * small), abs=1e-8)


def test_a_second_backward_pass_is_an_error() -> None:
    """The gradient overwrites the log-probabilities."""
    logits = torch.randn(4, 5, requires_grad=True)
    loss = memory_efficient_cross_entropy(logits, torch.tensor([0, 4, 2, 2]), 0.1)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_improbable_words_cost_a_finite_amount() -> None:
    logits = torch.tensor([[0.0, 500.0]], requires_grad=True)
    loss = memory_efficient_cross_entropy(logits, torch.tensor([0]), 0.0)
    loss.backward()
    assert loss.item() == 500.0
    assert logits.grad is not None
    assert logits.grad.tolist() == [[-1.0, 1.0]]
