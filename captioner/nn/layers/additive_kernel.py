"""The energies of additive attention on a CPU, without a tensor of N·P·A elements and without tanh, which is slow.

    e_np = w·tanh(k_np + q_n)          k: an image's keys, q: a row's query
         = 2 w·σ(2 (k_np + q_n)) − Σ_a w_a

The reference implementation (`AdditiveAttention.reference_energies`) copies the keys to their rows at every step, adds
the query, takes the tanh and keeps all three for the backward pass. That pass writes as much again and adds a whole
gradient of the keys at every step. Here a few rows at a time stay in the processor's cache, the backward pass computes
the logistic function again, and the gradient of the keys is summed in place over the steps. PyTorch computes the
logistic function several times as fast as tanh. The tests compare this code with the reference implementation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

_BLOCK_ELEMENTS = 2**17  # of keys: half a megabyte in float32, which fits into the cache of one core


@dataclass
class _Gradients:
    """Sums over the steps' backward passes: the gradient of e times σ(1 − σ), (B, P, A), and times tanh, (A,)."""

    keys: Tensor | None = None
    score: Tensor | None = None


def energies_in_blocks(
    keys: Float[Tensor, "B P A"], score: Float[Tensor, " A"], query: Float[Tensor, "N A"], images: Int[Tensor, " N"]
) -> Float[Tensor, "N P"]:
    """e of N rows, row n with the keys of images[n]. No gradient is recorded."""
    energies = query.new_empty(len(query), keys.shape[1])
    for rows, logistic in _blocks_of_logistic(keys, query, images):
        torch.matmul(logistic, score, out=energies[rows])
    return energies.mul_(2).sub_(score.sum())


class StepEnergies:
    """Energies of one batch of captions: one call per step; all calls share the keys of the batch's images."""

    def __init__(self, keys: Float[Tensor, "B P A"], score: Float[Tensor, " A"]) -> None:
        self._sums = _Gradients()
        self._keys, self._score = _SharedKeys.apply(keys, score, self._sums)

    def __call__(self, query: Float[Tensor, "N A"], images: Int[Tensor, " N"]) -> Float[Tensor, "N P"]:
        """e of N rows, row n with the keys of images[n]."""
        energies: Tensor = _Energies.apply(self._keys, self._score, query, images, self._sums)
        return energies


class _SharedKeys(torch.autograd.Function):
    """The keys and score that all steps use. Its backward runs after those of all steps and completes their sums."""

    @staticmethod
    def forward(ctx: Any, keys: Tensor, score: Tensor, sums: _Gradients) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.sums = sums
        ctx.save_for_backward(score)
        return keys.view_as(keys), score.view_as(score)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *_: Tensor | None) -> tuple[Tensor | None, Tensor | None, None]:
        (score,) = ctx.saved_tensors
        keys_sum, score_sum = ctx.sums.keys, ctx.sums.score
        ctx.sums.keys = ctx.sums.score = None
        return (None if keys_sum is None else keys_sum.mul_(4 * score)), score_sum, None


class _Energies(torch.autograd.Function):
    """One step: e (N, P). Its backward returns the gradient of the query and adds the others to the sums."""

    @staticmethod
    def forward(ctx: Any, keys: Tensor, score: Tensor, query: Tensor, images: Tensor, sums: _Gradients) -> Tensor:
        ctx.save_for_backward(keys, score, query, images)
        ctx.sums = sums
        return energies_in_blocks(keys, score, query, images)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, Tensor, None, None]:
        keys, score, query, images = ctx.saved_tensors
        sums: _Gradients = ctx.sums
        if sums.keys is None or sums.score is None:
            sums.keys, sums.score = torch.zeros_like(keys), torch.zeros_like(score)
        slopes = torch.empty_like(query)  # Σ_p of e's gradient times σ(1 − σ)
        image_of_row = images.tolist()
        for rows, logistic in _blocks_of_logistic(keys, query, images):
            block_gradient = gradient[rows]
            sums.score.addmv_(logistic.view(-1, logistic.shape[-1]).t(), block_gradient.reshape(-1), alpha=2)
            slope = torch.addcmul(logistic, logistic, logistic, value=-1, out=logistic)
            torch.bmm(block_gradient.unsqueeze(1), slope, out=slopes[rows].unsqueeze(1))
            for row, image in enumerate(image_of_row[rows]):
                sums.keys[image].addcmul_(slope[row], block_gradient[row].unsqueeze(1))
        sums.score -= gradient.sum()
        return None, None, slopes.mul_(4 * score), None, None


def _blocks_of_logistic(keys: Tensor, query: Tensor, images: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """(rows, σ(2 (k + q)) of these rows), block by block. Each block reuses the memory of the last one."""
    regions, attention_dim = keys.shape[1:]
    size = max(1, _BLOCK_ELEMENTS // (regions * attention_dim))
    buffer = keys.new_empty(size, regions, attention_dim)
    twice = (2 * query).unsqueeze(1)
    for start in range(0, len(query), size):
        rows = slice(start, min(start + size, len(query)))
        block = buffer[: rows.stop - start]
        torch.index_select(keys, 0, images[rows], out=block)
        yield rows, torch.add(twice[rows], block, alpha=2, out=block).sigmoid_()
