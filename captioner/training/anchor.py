"""The KL anchor of self-critical training: the model as it was before that phase.

A reward does not tell everything that makes a caption good. With `reward.kl_weight` β, the loss has β times

    Σ_t KL( p(· | w_1 … w_{t−1}, image) ‖ p₀(· | w_1 … w_{t−1}, image) )

of each sampled caption w, in nats per caption, where p₀ is the decoder at the end of cross-entropy training (Jaques et
al. 2017, section 4: KL control; there as a part of the reward, estimated from the sampled word). Each divergence is
exact, the sum over all words of the vocabulary. The words before are taken as given, so what the divergence has to do
with which words are sampled is not in the gradient.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from captioner.nn.decoders.decoder import Decoder
from captioner.nn.packing import PackedCaptions
from captioner.nn.types import ImageFeatures


class Anchor:
    """A frozen copy of a decoder. It reads the features of the model that is trained, also if those change."""

    def __init__(self, decoder: Decoder[Any]) -> None:
        self.decoder = deepcopy(decoder).eval().requires_grad_(requires_grad=False)

    @torch.no_grad()
    def logits(self, features: ImageFeatures, captions: PackedCaptions) -> Float[Tensor, "M V"]:
        """Its teacher-forced logits of `captions`."""
        logits: Tensor = self.decoder(features, captions).logits
        return logits


def divergence(logits: Float[Tensor, "M V"], anchor: Float[Tensor, "M V"]) -> Float[Tensor, ""]:
    """Σ over the M words of KL(p ‖ p₀), in nats. Tokens whose logits are −∞ have probability 0 in both."""
    log_p, log_q = logits.log_softmax(dim=1), anchor.log_softmax(dim=1)
    forbidden = logits == -torch.inf
    return (log_p.exp() * (log_p - log_q).masked_fill(forbidden, 0.0)).sum()
