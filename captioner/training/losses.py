"""What training makes small: a batch's losses by name, "loss" their weighted sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
    totals: BatchTotals | None = None,
) -> dict[str, Tensor]:
    """Cross-entropy under teacher forcing, in nats per token, and the decoder's own losses.

    "words": mean over the M tokens of −log p(token | tokens before it, image), smoothed towards the uniform
    distribution (Szegedy et al. 2016); the decoder's own losses by their names (see `AuxiliaryLoss`), as means over
    tokens or captions; "loss": words + the own losses times their weights. Where the decoder samples its attention,
    the loss also has the gradient of `reinforce_term`.

    totals: those of the whole step, where `captions` are one micro-batch of it; None: those of `captions`.
    """
    totals = totals or BatchTotals(len(captions.targets), len(captions.images), int(captions.images.max()) + 1)
    answer = model(features, captions)
    words = memory_efficient_cross_entropy(answer.logits, captions.targets, label_smoothing) / totals.words
    losses = {"loss": words, "words": words.detach()}
    for name, own in answer.losses.items():
        mean = own.total / (totals.captions if own.per == "caption" else totals.words)
        losses[name] = mean.detach()
        losses["loss"] = losses["loss"] + own.weight * mean
    if answer.sampled_attention is not None:
        surrogate = reinforce_term(answer.logits, captions, answer.sampled_attention, label_smoothing) / totals.words
        losses["loss"] = losses["loss"] + surrogate
    return losses
