"""What training makes small: a batch's losses by name, "loss" their weighted sum."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from captioner.engine.word_loss import word_loss
from captioner.nn.model import CaptioningModel
from captioner.nn.packing import PackedCaptions
from captioner.nn.state import ImageFeatures


def captioning_losses(
    model: CaptioningModel,
    features: ImageFeatures,
    captions: PackedCaptions,
    *,
    label_smoothing: float,
    doubly_stochastic: float,
) -> dict[str, Tensor]:
    """Cross-entropy under teacher forcing, in nats a word, and the attention's regulariser.

    "words": mean over the M words of −log p(word | words before it, image), smoothed towards the
    uniform distribution (Szegedy et al. 2016); "attention": see `doubly_stochastic_penalty`, for
    decoders that attend; "loss" = words + doubly_stochastic · attention.
    """
    answer = model(features, captions)
    words = word_loss(answer.logits, captions.targets, label_smoothing) / len(captions.targets)
    losses = {"loss": words, "words": words.detach()}
    if answer.attention is not None and doubly_stochastic > 0:
        attention = doubly_stochastic_penalty(answer.attention, captions)
        losses["attention"] = attention.detach()
        losses["loss"] = words + doubly_stochastic * attention
    return losses


def doubly_stochastic_penalty(attention: Float[Tensor, "M P"], captions: PackedCaptions) -> Tensor:
    """Mean over captions and cells of (1 − Σ_t α_tp)²: Xu et al. 2015, eq. 14.

    The paper sums over cells and adds it to the log-likelihood of a whole caption; here both terms
    are means (over cells, over words), so that λ keeps its meaning on any grid.
    """
    captions_count = len(captions.images)
    looked = attention.new_zeros(captions_count, attention.shape[1]).index_add(0, captions.rows, attention)
    return ((1 - looked) ** 2).mean()
