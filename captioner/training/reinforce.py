"""REINFORCE (Williams 1992) for sampled attention, as in Xu et al. 2015, section 4.1.

For the cost C(s) = −log p(y | s, a) of a caption, locations s sampled from p(s | a), and any baseline b that does not
depend on s:

    ∇ E[C(s)] = E[∇C(s) + (C(s) − b) ∇ log p(s | a)]

The first term is the gradient of the cross-entropy. `reinforce_term` has the value 0 and the second term as its
gradient, so adding it does not change the value of the loss.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from captioner.nn.packing import PackedCaptions
from captioner.nn.types import SampledAttention


def reinforce_term(
    logits: Float[Tensor, "M V"], captions: PackedCaptions, sampled: SampledAttention, label_smoothing: float
) -> Float[Tensor, ""]:
    """Σ over the N captions of (C − b·T) · log p(s), minus its value. T: the tokens of a caption; C: its cost.

    log p(s) is summed over all tokens of a caption, because every token depends on the locations sampled before it.
    C has the label smoothing of the loss.
    """
    with torch.no_grad():
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        costs = F.cross_entropy(logits, captions.targets, reduction="none", label_smoothing=label_smoothing)
        advantage = _by_caption(costs - sampled.baseline, captions)
    log_probs = _by_caption(sampled.log_probs, captions)
    return sampled.weight * (advantage * (log_probs - log_probs.detach())).sum()


def _by_caption(values: Float[Tensor, " M"], captions: PackedCaptions) -> Float[Tensor, " N"]:
    """Sums over the tokens of each caption."""
    return values.new_zeros(len(captions.images)).index_add(0, captions.rows, values)
