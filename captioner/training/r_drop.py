"""R-Drop: two passes with different dropout that have to agree (Liang, Li, Wu et al. 2021, section 2).

For the distributions p_1 and p_2 of a word in the two passes, equations 2 to 4 give the loss

    −log p_1(y) − log p_2(y) + α · ½ [KL(p_1 ‖ p_2) + KL(p_2 ‖ p_1)]

Here it is half of that, so that the cross-entropy is a mean over the passes, as other losses are.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def symmetric_divergence(first: Float[Tensor, "M V"], second: Float[Tensor, "M V"]) -> Float[Tensor, ""]:
    """Σ over the M tokens of ½ [KL(p_1 ‖ p_2) + KL(p_2 ‖ p_1)] = ½ Σ_v (p_1 − p_2)(log p_1 − log p_2), in nats.

    `first`, `second`: the logits of the two passes. Both have a gradient.
    """
    one, two = (x.log_softmax(dim=1, dtype=torch.promote_types(x.dtype, torch.float32)) for x in (first, second))
    return 0.5 * ((one.exp() - two.exp()) * (one - two)).sum()
