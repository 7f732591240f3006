"""The doubly stochastic attention regularizer (Xu et al. 2015, section 4.2.1)."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor

from captioner.nn.packing import PackedCaptions
from captioner.nn.types import AuxiliaryLoss


def doubly_stochastic_loss(
    attention: Float[Tensor, "M P"],
    captions: PackedCaptions,
    weight: float,
    mask: Bool[Tensor, "B P"] | None = None,
) -> dict[str, AuxiliaryLoss]:
    """The regularizer as a decoder's own loss "attention", with λ = `weight`; no loss where that is 0.

    mask: of `ImageFeatures`.
    """
    if weight == 0:
        return {}
    return {"attention": AuxiliaryLoss(doubly_stochastic_penalty(attention, captions, mask), weight, per="caption")}


def doubly_stochastic_penalty(
    attention: Float[Tensor, "M P"], captions: PackedCaptions, mask: Bool[Tensor, "B P"] | None = None
) -> Float[Tensor, ""]:
    """Sum over captions of the mean over regions of (1 − Σ_t α_tp)²: Xu et al. 2015, eq. 14.

    The paper sums over regions and adds it to the log-likelihood of a whole caption. Here training takes means of both
    terms, over regions and captions and over tokens, so that λ has the same effect for every size of the grid.
    """
    total = attention.new_zeros(len(captions.images), attention.shape[1]).index_add(0, captions.rows, attention)
    missing = (1 - total) ** 2
    if mask is None:
        return missing.mean(dim=1).sum()
    real = mask.index_select(0, captions.images)
    return (missing.masked_fill(~real, 0.0).sum(dim=1) / real.sum(dim=1)).sum()
