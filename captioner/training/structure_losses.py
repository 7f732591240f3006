"""Structure losses: losses over a few captions of an image, their rewards and their probabilities.

For the different captions w_1 … w_K of an image with rewards r and scores s(w) = α ln p(w), where α is `sharpness`, and
with u* the caption with the highest reward and û the one with the highest score,

    minimum risk   −Σ_k Q(w_k) r(w_k),   Q(w) = exp s(w) / Σ_j exp s(w_j)
    max margin     max(0, r(u*) − r(û) − s(u*) + s(û))
    best of n      −s(u*) + ln Σ_j exp s(w_j)

Minimum risk: Shen et al. 2016, equations 7 to 9, whose losses Δ are −r, with α = 5e-3. All three: Edunov et al. 2018,
equations 4, 5 and 3; with α = 1, best of n is their sequence negative log-likelihood.

Their gradients are exact for these captions. They are not that of the expected reward, because the captions, which the
model made, are taken as given. With a small sharpness, minimum risk weights all captions alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from captioner.config.reward import BEST_OF_N, MAX_MARGIN, MINIMUM_RISK
from captioner.decode.sampling import SampledCaption


def structure_loss(
    method: str,
    log_probs: Float[Tensor, "B K"],
    rewards: Float[Tensor, "B K"],
    repeats: Bool[Tensor, "B K"],
    sharpness: float,
) -> Float[Tensor, ""]:
    """Σ over the B images of the loss `method`. log_probs: ln p of their captions; repeats: those that do not count."""
    scores = (sharpness * log_probs).masked_fill(repeats, -torch.inf)
    return _LOSSES[method](scores, rewards.masked_fill(repeats, -torch.inf)).sum()


def _minimum_risk(scores: Float[Tensor, "B K"], rewards: Float[Tensor, "B K"]) -> Float[Tensor, " B"]:
    return -(scores.softmax(dim=1) * rewards.masked_fill(rewards == -torch.inf, 0.0)).sum(dim=1)


def _max_margin(scores: Float[Tensor, "B K"], rewards: Float[Tensor, "B K"]) -> Float[Tensor, " B"]:
    best, likeliest = _first_highest(rewards), _first_highest(scores)
    margin = rewards.gather(1, best) - rewards.gather(1, likeliest)
    return (margin - scores.gather(1, best) + scores.gather(1, likeliest)).relu().squeeze(1)


def _best_of_n(scores: Float[Tensor, "B K"], rewards: Float[Tensor, "B K"]) -> Float[Tensor, " B"]:
    return scores.logsumexp(dim=1) - scores.gather(1, _first_highest(rewards)).squeeze(1)


_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    MINIMUM_RISK: _minimum_risk,
    MAX_MARGIN: _max_margin,
    BEST_OF_N: _best_of_n,
}


def _first_highest(values: Float[Tensor, "B K"]) -> Int[Tensor, "B 1"]:
    """The place of the highest value of each row; among equals the first, on every device."""
    return values.sort(dim=1, descending=True, stable=True).indices[:, :1]


def repeated(captions: Sequence[Sequence[SampledCaption]]) -> Bool[Tensor, "B K"]:
    """Which captions stand earlier among those of their image."""
    return torch.tensor([[caption in of_image[:k] for k, caption in enumerate(of_image)] for of_image in captions])


def inverse(order: tuple[Tensor, Tensor], count: int) -> Int[Tensor, " N"]:
    """Where the captions of images 0, 0, …, 1, 1, … stand in `order`, their (image, caption) in another order."""
    images, captions = order
    return torch.argsort(images * count + captions)
