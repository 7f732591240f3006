"""What training makes small: a batch's losses by name, "loss" their weighted sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from captioner.nn.model import CaptioningModel
from captioner.nn.packing import PackedCaptions
from captioner.nn.types import ImageFeatures
from captioner.training.cross_entropy import memory_efficient_cross_entropy
from captioner.training.reinforce import reinforce_term


@dataclass(frozen=True)
class BatchTotals:
    """Over how many words, captions and images a step's means are taken.

    A step may come in portions: micro-batches one after the other, or parts of a batch in several processes. With the
    totals of the whole step, the losses and gradients of its portions add up to those of the undivided batch.
    """

    words: int
    captions: int
    images: int

    @staticmethod
    def of(captions: Sequence[Sequence[Sequence[int]]]) -> BatchTotals:
        """Of captions as word numbers, image by image; <END> counts as a word, for it must be said."""
        return BatchTotals(
            sum(len(words) + 1 for own in captions for words in own), sum(map(len, captions)), len(captions)
        )


def captioning_losses(
    model: CaptioningModel,
    features: ImageFeatures,
    captions: PackedCaptions,
    *,
    label_smoothing: float,
    doubly_stochastic: float,
    totals: BatchTotals | None = None,
) -> dict[str, Tensor]:
    """Cross-entropy under teacher forcing, in nats a word, the attention's regulariser, and what else a decoder has.

    "words": mean over the M words of −log p(word | words before it, image), smoothed towards the
    uniform distribution (Szegedy et al. 2016); "attention": see `doubly_stochastic_penalty`, for
    decoders that attend; a model's own losses by their names, weighted, as means over the words; "loss" = words +
    doubly_stochastic · attention + the model's own. Where the decoder draws by lot, the loss also has the gradient of
    `reinforce_term`. `totals`: of the whole step, where `captions` are one portion of it; None: of `captions`.
    """
    totals = totals or BatchTotals(len(captions.targets), len(captions.images), int(captions.images.max()) + 1)
    answer = model(features, captions)
    words = memory_efficient_cross_entropy(answer.logits, captions.targets, label_smoothing) / totals.words
    losses = {"loss": words, "words": words.detach()}
    if answer.attention is not None and doubly_stochastic > 0:
        attention = doubly_stochastic_penalty(answer.attention, captions) / totals.captions
        losses["attention"] = attention.detach()
        losses["loss"] = words + doubly_stochastic * attention
    for name, value in answer.losses.items():
        losses[name] = value.detach() / totals.words
        losses["loss"] = losses["loss"] + value / totals.words
    if answer.sampled_attention is not None:
        surrogate = reinforce_term(answer.logits, captions, answer.sampled_attention, label_smoothing) / totals.words
        losses["loss"] = losses["loss"] + surrogate
    return losses


def doubly_stochastic_penalty(attention: Float[Tensor, "M P"], captions: PackedCaptions) -> Tensor:
    """Sum over captions of the mean over cells of (1 − Σ_t α_tp)²: Xu et al. 2015, eq. 14.

    The paper sums over cells and adds it to the log-likelihood of a whole caption; here both terms end as means
    (over cells and captions, over words), so that λ keeps its meaning on any grid.
    """
    looked = attention.new_zeros(len(captions.images), attention.shape[1]).index_add(0, captions.rows, attention)
    return ((1 - looked) ** 2).mean(dim=1).sum()
