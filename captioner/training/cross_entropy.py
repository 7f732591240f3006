"""Memory-efficient cross-entropy over the vocabulary, whose logits are the largest tensor of a training step.

`torch.nn.functional.cross_entropy` allocates the log-probabilities, a zero tensor of their size for the gradient, and
the gradient. Here the gradient, p − q, is computed in the memory of the log-probabilities. Tests compare the two.
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
    """Σ over the M tokens of −Σ_v q_v log p_v, in nats, where q is 1 − ε at the target, plus ε/V everywhere.

    ε: `label_smoothing` (Szegedy et al. 2016, section 7). Differentiable once; one backward pass per call.
    """
    loss: Tensor = _CrossEntropy.apply(logits, targets, label_smoothing)
    return loss


class _CrossEntropy(torch.autograd.Function):
    """Saves log p, and computes the gradient p − q from it in place."""

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
        gradient = log_probs.exp_()  # becomes p − q in place; PyTorch prevents a second backward pass
        if smoothing:
            gradient -= smoothing / gradient.shape[1]
        gradient.scatter_add_(1, targets.unsqueeze(1), gradient.new_full((len(gradient), 1), smoothing - 1))
        return gradient.mul_(scale).to(ctx.dtype), None, None
