"""The losses of cross-entropy training, by name; "loss" is their weighted sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from captioner.config import ObjectiveConfig
from captioner.nn.model import CaptioningModel
from captioner.nn.packing import PackedCaptions
from captioner.nn.types import DecoderOutput, ImageFeatures
from captioner.training.cross_entropy import memory_efficient_cross_entropy
from captioner.training.r_drop import symmetric_divergence
from captioner.training.reinforce import reinforce_term
from captioner.training.unlikelihood import unlikelihood


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
    objective: ObjectiveConfig | None = None,
) -> dict[str, Tensor]:
    """Cross-entropy under teacher forcing, in nats per token, and the decoder's own losses.

    "words": mean over the M tokens of −log p(token | tokens before it, image), smoothed towards the uniform
    distribution (Szegedy et al. 2016); the decoder's own losses by their names (see `AuxiliaryLoss`), as means over
    tokens or captions; "loss": words + the own losses times their weights. Where the decoder samples its attention,
    the loss also has the gradient of `reinforce_term`.

    totals: those of the whole step, where `captions` are one micro-batch of it; None: those of `captions`.
    objective: for its `unlikelihood` and `r_drop`, which add losses of these names, per token, times their weights.
    With `r_drop` there are two passes, and the other losses are means of both.
    """
    totals = totals or BatchTotals(len(captions.targets), len(captions.images), int(captions.images.max()) + 1)
    objective = objective or ObjectiveConfig()
    answer = model(features, captions)
    losses = _losses_of_pass(answer, captions, label_smoothing, totals, objective.unlikelihood)
    if objective.r_drop:
        second = model(features, captions)
        others = _losses_of_pass(second, captions, label_smoothing, totals, objective.unlikelihood)
        losses = {name: (value + others[name]) / 2 for name, value in losses.items()}
        divergence = symmetric_divergence(answer.logits, second.logits) / totals.words
        losses["r_drop"] = divergence.detach()
        losses["loss"] = losses["loss"] + objective.r_drop / 2 * divergence
    return losses


def _losses_of_pass(
    answer: DecoderOutput,
    captions: PackedCaptions,
    label_smoothing: float,
    totals: BatchTotals,
    unlikelihood_weight: float,
) -> dict[str, Tensor]:
    """The losses of what the decoder returned for `captions`, by name."""
    words = memory_efficient_cross_entropy(answer.logits, captions.targets, label_smoothing) / totals.words
    losses = {"loss": words, "words": words.detach()}
    for name, auxiliary in answer.losses.items():
        mean = auxiliary.total / (totals.captions if auxiliary.per == "caption" else totals.words)
        losses[name] = mean.detach()
        losses["loss"] = losses["loss"] + auxiliary.weight * mean
    if unlikelihood_weight:
        repeated = unlikelihood(answer.logits, captions) / totals.words
        losses["unlikelihood"] = repeated.detach()
        losses["loss"] = losses["loss"] + unlikelihood_weight * repeated
    if answer.sampled_attention is not None:
        surrogate = reinforce_term(answer.logits, captions, answer.sampled_attention, label_smoothing) / totals.words
        losses["loss"] = losses["loss"] + surrogate
    return losses
