"""From logits to log-probabilities and the most probable tokens: what every search computes on the device."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

_ROWS_IN_CACHE = 32  # of logits: their exponentials stay in a processor's cache, and all rows' would not


def log_sum_exp(logits: Float[Tensor, "N V"]) -> Float[Tensor, "N 1"]:
    """ln Σ_v exp(logit_v) of each row, the normalizer of its softmax.

    `torch.logsumexp` writes two copies of all rows to memory. On a CPU a few rows at a time take a third of the time.
    """
    parts = torch.split(logits, _ROWS_IN_CACHE) if logits.device.type == "cpu" else (logits,)
    return torch.cat([part.logsumexp(dim=1, keepdim=True) for part in parts])


def at_least_float32(logits: Float[Tensor, "N V"]) -> Float[Tensor, "N V"]:
    """Half-precision logits as float32, others unchanged: sums over V tokens need the precision."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def top_tokens(logits: Float[Tensor, "N V"], count: int) -> tuple[Float[Tensor, "N K"], Int[Tensor, "N K"]]:
    """The K = min(count, V) highest logits of each row and their token ids; among equals the lowest ids come first.

    `torch.topk` does not define which of several equal values it returns, nor their order, so captions would depend on
    the device and on the batch. Tokens at -inf have no defined order.
    """
    count = min(count, logits.shape[1])
    values, tokens = logits.topk(min(count + 1, logits.shape[1]))  # one more, to detect a tie with the last one
    equal = (values[:, 1:] == values[:, :-1]) & (values[:, 1:] > float("-inf"))
    if equal.any():  # rare in float32; these rows are sorted completely
        tied = equal.any(dim=1)
        sorted_values, sorted_tokens = logits[tied].sort(dim=1, descending=True, stable=True)
        values[tied], tokens[tied] = sorted_values[:, : values.shape[1]], sorted_tokens[:, : values.shape[1]]
    return values[:, :count], tokens[:, :count]


def most_probable(logits: Float[Tensor, "N V"]) -> Int[Tensor, " N"]:
    """The token with the highest logit of each row; among equals the lowest id, and the first NaN where there is one.

    On a CPU, NumPy finds it in a tenth of the time that `torch.max` takes.
    """
    if logits.device.type == "cpu":
        return torch.from_numpy(logits.detach().numpy().argmax(axis=1))
    return logits.max(dim=1).indices  # the first of equal values, as torch guarantees
