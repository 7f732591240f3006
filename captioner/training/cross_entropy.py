"""Cross-entropy over the vocabulary, the largest tensor of a training step, touched as seldom as possible.

`torch.nn.functional.cross_entropy` writes the log-probabilities, a zero tensor as large for the gradient, and the
gradient. Here p − q, which is the gradient, is made from the log-probabilities at once. It is the oracle in the tests.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable


def memory_efficient_cross_entropy(
    logits: Float[Tensor, "M V"], targets: Int[Tensor, " M"], label_smoothing: float
) -> Float[Tensor, ""]:
    """Σ over the M words of −Σ_v q_v log p_v, in nats; q is 1 − ε at the target, plus ε/V everywhere.

    Label smoothing: Szegedy et al. 2016, section 7. Differentiable once.
    """
    loss: Tensor = _WordLoss.apply(logits, targets, label_smoothing)
    return loss


class _WordLoss(torch.autograd.Function):
    """p − q is the gradient, and p is at hand as log p."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, label_smoothing: float) -> Tensor:
        log_probs = torch.log_softmax(logits, dim=1, dtype=torch.float32 if logits.dtype.itemsize < 4 else None)
        ctx.save_for_backward(log_probs, targets)
        ctx.label_smoothing, ctx.dtype = label_smoothing, logits.dtype
        loss = (label_smoothing - 1) * log_probs.gather(1, targets.unsqueeze(1)).sum()
        if label_smoothing:
            loss = loss - label_smoothing / log_probs.shape[1] * log_probs.sum()
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor, None, None]:
        (log_probs, targets), smoothing = ctx.saved_tensors, ctx.label_smoothing
        gradient = log_probs.exp_()  # and p − q in the end, in the same memory: torch refuses a second backward pass
        if smoothing:
            gradient -= smoothing / gradient.shape[1]
        gradient.scatter_add_(1, targets.unsqueeze(1), gradient.new_full((len(gradient), 1), smoothing - 1))
        return gradient.mul_(scale).to(ctx.dtype), None, None
