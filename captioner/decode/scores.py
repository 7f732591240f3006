"""From logits to log-probabilities, and to the best words: what all searches compute on the device."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from captioner.errors import CaptionerError


def at_least_float32(logits: Float[Tensor, "N V"]) -> Float[Tensor, "N V"]:
    """Half-precision logits as float32, others as they are: sums over V words need the bits."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def best_words(logits: Float[Tensor, "N V"], count: int) -> tuple[Float[Tensor, "N K"], Int[Tensor, "N K"]]:
    """The K = min(count, V) highest logits of each row and their words; of equal ones the lowest numbers.

    `torch.topk` alone leaves open which of several equal values it takes, which would make a caption
    depend on the device and on the batch it was decoded in. Only the set is sorted out here: the order
    among equal values is not.
    """
    count = min(count, logits.shape[1])
    values, words = logits.topk(min(count + 1, logits.shape[1]))
    last, next_best = values[:, count - 1], values[:, -1]
    if values.shape[1] > count and (tied := (last == next_best) & (last > float("-inf"))).any():
        tied_values, tied_words = logits[tied].sort(dim=1, descending=True, stable=True)
        values[tied], words[tied] = tied_values[:, : count + 1], tied_words[:, : count + 1]
    return values[:, :count], words[:, :count]


def check_number(log_prob: float, image: int, position: int) -> None:
    """CaptionerError where a log-probability is NaN, because from there on every caption is meaningless."""
    if log_prob != log_prob:
        raise CaptionerError(
            f"The decoder's scores for image {image} (counted from 0) at word {position + 1} are not numbers (NaN): "
            "its weights have diverged or its features are not finite. Use an earlier checkpoint, or train with a "
            "smaller optim.learning_rate."
        )
