"""The losses of cross-entropy training, by name; "loss" is their weighted sum."""

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
    """The numbers of words, captions and images of an optimizer step, over which its losses are means.

    A step may be divided into micro-batches, and among processes. With the totals of the whole step, the losses and
    gradients of its parts add up to those of the undivided batch. <END> counts as a word.
    """

    words: int
    captions: int
    images: int

    @staticmethod
    def of(captions: Sequence[Sequence[Sequence[int]]]) -> BatchTotals:
        """The totals of the captions of some images, each caption as token ids without <END>."""
        words = sum(len(tokens) + 1 for captions_of_image in captions for tokens in captions_of_image)
        return BatchTotals(words, sum(map(len, captions)), len(captions))


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
    for name, auxiliary in answer.losses.items():
        mean = auxiliary.total / (totals.captions if auxiliary.per == "caption" else totals.words)
        losses[name] = mean.detach()
        losses["loss"] = losses["loss"] + auxiliary.weight * mean
    if answer.sampled_attention is not None:
        surrogate = reinforce_term(answer.logits, captions, answer.sampled_attention, label_smoothing) / totals.words
        losses["loss"] = losses["loss"] + surrogate
    return losses
