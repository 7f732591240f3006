"""Learning from what was drawn by lot: REINFORCE (Williams 1992), as Xu et al. 2015, section 4.1 use it.

For the cost C(s) = −log p(y | s, a) of a caption, s drawn from p(s | a) and any b that does not depend on s:

    ∇ E[C(s)] = E[∇C(s) + (C(s) − b) ∇ log p(s | a)]

The first term is the gradient of the loss that is there anyway. What comes here is a tensor of value 0 whose gradient
is the second, so that a loss with it still reads as what it was.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from captioner.nn.packing import PackedCaptions
from captioner.nn.types import SampledAttention


def reinforce_term(
    logits: Float[Tensor, "M V"], captions: PackedCaptions, drawn: SampledAttention, label_smoothing: float
) -> Float[Tensor, ""]:
    """Σ over captions of (C − b·T) · log p(s), less its value. T: a caption's words; C: its cost, smoothed as the loss.

    log p(s) is the sum over the caption's words, for all of them depend on where was looked before. So do, through the
    hidden state, the probabilities of later choices, whose gradients flow back as those of everything else.
    """
    with torch.no_grad():
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        costs = F.cross_entropy(logits, captions.targets, reduction="none", label_smoothing=label_smoothing)
        luck = _by_caption(costs - drawn.baseline, captions)
    log_probs = _by_caption(drawn.log_probs, captions)
    return drawn.weight * (luck * (log_probs - log_probs.detach())).sum()


def _by_caption(values: Float[Tensor, " M"], captions: PackedCaptions) -> Float[Tensor, " N"]:
    """The sum over each caption's words."""
    return values.new_zeros(len(captions.images)).index_add(0, captions.rows, values)
