"""From logits to log-probabilities, and to the best words: what all searches compute on the device."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from captioner.errors import CaptionerError


def at_least_float32(logits: Float[Tensor, "N V"]) -> Float[Tensor, "N V"]:
    """Half-precision logits as float32, others as they are: sums over V words need the bits."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def top_tokens(logits: Float[Tensor, "N V"], count: int) -> tuple[Float[Tensor, "N K"], Int[Tensor, "N K"]]:
    """The K = min(count, V) highest logits of each row and their words; among equals the lowest numbers come first.

    `torch.topk` alone leaves open which of several equal values it takes and in which order, so that a caption
    would depend on the device and on the batch it was decoded in. Words at -inf come in any order.
    """
    count = min(count, logits.shape[1])
    values, words = logits.topk(min(count + 1, logits.shape[1]))  # one more: is the last one tied with the next?
    equal = (values[:, 1:] == values[:, :-1]) & (values[:, 1:] > float("-inf"))
    if equal.any():  # rare in float32, and a whole row must be sorted for it
        tied = equal.any(dim=1)
        sorted_values, sorted_words = logits[tied].sort(dim=1, descending=True, stable=True)
        values[tied], words[tied] = sorted_values[:, : values.shape[1]], sorted_words[:, : values.shape[1]]
    return values[:, :count], words[:, :count]


def check_not_nan(log_prob: float, image: int, position: int) -> None:
    """CaptionerError where a log-probability is NaN, because from there on every caption is meaningless."""
    if log_prob != log_prob:
        raise CaptionerError(
            f"The decoder's scores for image {image} (counted from 0) at word {position + 1} are not numbers (NaN): "
            "its weights have diverged or its features are not finite. Use an earlier checkpoint, or train with a "
            "smaller optim.learning_rate."
        )
