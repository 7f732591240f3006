"""Minimum-risk training: the expected reward over a few captions of an image (Shen et al. 2016, section 3.2).

For the different captions w_1 … w_K of an image, with rewards r (their losses Δ are −r), equations 7 to 9 give the risk

    R = −Σ_k Q(w_k) r(w_k),     Q(w_k) = p(w_k)^α / Σ_j p(w_j)^α

Its gradient is exact for these captions. It is not that of the expected reward, because the captions, which the model
made, are taken as given. A small sharpness α (5e-3 in the paper) weights all captions alike.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from captioner.decode.sampling import SampledCaption


def minimum_risk(
    log_probs: Float[Tensor, "B K"], rewards: Float[Tensor, "B K"], repeats: Bool[Tensor, "B K"], sharpness: float
) -> Float[Tensor, ""]:
    """Σ over the B images of R. log_probs: ln p of their captions; repeats: captions that do not count."""
    weights = (sharpness * log_probs).masked_fill(repeats, -torch.inf).softmax(dim=1)
    return -(weights * rewards).sum()


def repeated(captions: Sequence[Sequence[SampledCaption]]) -> Bool[Tensor, "B K"]:
    """Which captions stand earlier among those of their image."""
    return torch.tensor([[caption in of_image[:k] for k, caption in enumerate(of_image)] for of_image in captions])


def inverse(order: tuple[Tensor, Tensor], count: int) -> Int[Tensor, " N"]:
    """Where the captions of images 0, 0, …, 1, 1, … stand in `order`, their (image, caption) in another order."""
    images, captions = order
    return torch.argsort(images * count + captions)
