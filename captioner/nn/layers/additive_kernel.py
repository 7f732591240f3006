"""The energies of additive attention on a CPU, without a tensor of N·P·A elements and without a tanh or exp of such.

    e_np = w·tanh(k_np + q_n)          k: an image's keys, q: a row's query
         = Σ_a w_a − 2 w·s_np,         s_np = σ(−2 (k_np + q_n)) = 1 / (1 + exp(2 k_np)·exp(2 q_n))

So the exponentials are taken once per key and once per query instead of once per row and key: a step multiplies, adds
1 and takes reciprocals. exp(2 k)·exp(2 q) may overflow or underflow, then s is 0 or 1 as it should be. Where a single
exponential would (|k| or |q| above `_LARGEST`, which no trained model reaches), s is computed as a logistic function.

The reference implementation (`AdditiveAttention.reference_energies`) copies the keys to their rows at every step, adds
the query, takes the tanh and keeps all three for the backward pass. That pass writes as much again and adds a whole
gradient of the keys at every step. Here a few rows at a time stay in the processor's cache, the backward pass computes
s again, and the gradient of the keys is summed in place over the steps. `compiled_kernel` does that in one pass without
blocks, where the machine has a C compiler. The tests compare both with the reference.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from captioner.nn.layers.compiled_kernel import KERNEL_TYPES, CompiledKernels, compiled_kernels

_BLOCK_ELEMENTS = 2**17  # of keys: half a megabyte in float32, which fits into the cache of one core
_LARGEST = 40.0  # of |k| and |q|: exp(±80) is a normal number in float32


class ExponentialKeys(NamedTuple):
    """exp(2 k) of the keys k, (B, P, A), all of them at most `_LARGEST`: part of a decoder's state during a search."""

    values: Tensor


@dataclass
class _Gradients:
    """Sums over the steps' backward passes: the gradient of e times s(1 − s), (B, P, A), and times tanh, (A,)."""

    keys: Tensor | None = None
    score: Tensor | None = None


def exponential_keys(keys: Float[Tensor, "B P A"]) -> ExponentialKeys | None:
    """What `energies_in_blocks` computes fastest with; None where a key is too large. No gradient is recorded."""
    return ExponentialKeys((2 * keys).exp_()) if _is_small(keys) else None


def energies_in_blocks(
    keys: Float[Tensor, "B P A"] | ExponentialKeys,
    score: Float[Tensor, " A"],
    query: Float[Tensor, "N A"],
    images: Int[Tensor, " N"],
) -> Float[Tensor, "N P"]:
    """e of N rows, row n with the keys of images[n]. No gradient is recorded."""
    kernels = _kernels_for(keys, query)
    if kernels is not None and isinstance(keys, ExponentialKeys):
        return kernels.energies(keys.values, score.contiguous(), torch.exp(2 * query), images)
    regions = (keys.values if isinstance(keys, ExponentialKeys) else keys).shape[1]
    energies = query.new_empty(len(query), regions)
    for rows, logistic in _blocks_of_logistic(keys, query, images.tolist()):
        torch.matmul(logistic, score, out=energies[rows])
    return torch.sub(score.sum(), energies, alpha=2, out=energies)


class StepEnergies:
    """Energies of one batch of captions: one call per step; all calls share the keys of the batch's images."""

    def __init__(self, keys: Float[Tensor, "B P A"], score: Float[Tensor, " A"]) -> None:
        self._sums = _Gradients()
        self._is_exponential = _is_small(keys)
        self._keys, self._score = _SharedKeys.apply(keys, score, self._sums, self._is_exponential)

    def __call__(self, query: Float[Tensor, "N A"], images: Int[Tensor, " N"]) -> Float[Tensor, "N P"]:
        """e of N rows, row n with the keys of images[n]."""
        energies: Tensor = _Energies.apply(self._keys, self._score, query, images, self._sums, self._is_exponential)
        return energies


class _SharedKeys(torch.autograd.Function):
    """The keys and score that all steps use. Its backward runs after those of all steps and completes their sums."""

    @staticmethod
    def forward(ctx: Any, keys: Tensor, score: Tensor, sums: _Gradients, is_exponential: bool) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.sums = sums
        ctx.save_for_backward(score)
        return (2 * keys).exp_() if is_exponential else keys.view_as(keys), score.view_as(score)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *_: Tensor | None) -> tuple[Tensor | None, Tensor | None, None, None]:
        (score,) = ctx.saved_tensors
        keys_sum, score_sum = ctx.sums.keys, ctx.sums.score
        ctx.sums.keys = ctx.sums.score = None
        return (None if keys_sum is None else keys_sum.mul_(4 * score)), score_sum, None, None


class _Energies(torch.autograd.Function):
    """One step: e (N, P). Its backward returns the gradient of the query and adds the others to the sums."""

    @staticmethod
    def forward(
        ctx: Any, keys: Tensor, score: Tensor, query: Tensor, images: Tensor, sums: _Gradients, is_exponential: bool
    ) -> Tensor:
        ctx.save_for_backward(keys, score, query, images)
        ctx.sums, ctx.is_exponential = sums, is_exponential
        return energies_in_blocks(ExponentialKeys(keys) if is_exponential else keys, score, query, images)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, Tensor, None, None, None]:
        keys, score, query, images = ctx.saved_tensors
        sums: _Gradients = ctx.sums
        if sums.keys is None or sums.score is None:
            sums.keys, sums.score = torch.zeros_like(keys), torch.zeros_like(score)
        known_keys = ExponentialKeys(keys) if ctx.is_exponential else keys
        kernels = _kernels_for(known_keys, query)
        if kernels is not None:
            weighted, slopes = kernels.add_gradients(
                keys, torch.exp(2 * query), images, gradient.contiguous(), sums.keys
            )
        else:
            weighted, slopes = _add_gradients_in_blocks(known_keys, query, images.tolist(), gradient, sums.keys)
        sums.score += gradient.sum() - 2 * weighted.sum(dim=0)
        return None, None, slopes.mul_(4 * score), None, None, None


def _add_gradients_in_blocks(
    keys: Tensor | ExponentialKeys, query: Tensor, images: list[int], gradient: Tensor, keys_sum: Tensor
) -> tuple[Tensor, Tensor]:
    """With torch, what `CompiledKernels.add_gradients` computes."""
    weighted, slopes = torch.empty_like(query), torch.empty_like(query)
    columns = gradient.unsqueeze(2)
    for rows, logistic in _blocks_of_logistic(keys, query, images):
        block_gradient = gradient[rows].unsqueeze(1)
        torch.bmm(block_gradient, logistic, out=weighted[rows].unsqueeze(1))
        slope = torch.addcmul(logistic, logistic, logistic, value=-1, out=logistic)
        torch.bmm(block_gradient, slope, out=slopes[rows].unsqueeze(1))
        for row, image in enumerate(images[rows], start=rows.start):
            keys_sum[image].addcmul_(slope[row - rows.start], columns[row])
    return weighted, slopes


def _kernels_for(keys: Tensor | ExponentialKeys, query: Tensor) -> CompiledKernels | None:
    """The compiled kernels, where they apply: to exponential keys, small queries, and two types."""
    if not isinstance(keys, ExponentialKeys) or query.dtype not in KERNEL_TYPES or keys.values.dtype != query.dtype:
        return None
    return compiled_kernels() if keys.values.is_contiguous() and _is_small(query) else None


def _blocks_of_logistic(
    keys: Tensor | ExponentialKeys, query: Tensor, images: list[int]
) -> Iterator[tuple[slice, Tensor]]:
    """(rows, s of these rows), block by block. Each block reuses the memory of the last one."""
    if isinstance(keys, ExponentialKeys) and not _is_small(query):
        keys = keys.values.log().mul_(0.5)
    values, is_exponential = (keys.values, True) if isinstance(keys, ExponentialKeys) else (keys, False)
    factor = (torch.exp(2 * query) if is_exponential else -2 * query).unsqueeze(1)
    one = values.new_ones(())
    regions, attention_dim = values.shape[1:]
    size = max(1, _BLOCK_ELEMENTS // (regions * attention_dim))
    buffer = values.new_empty(min(size, len(query)), regions, attention_dim)
    for start in range(0, len(query), size):
        rows = slice(start, min(start + size, len(query)))
        block = buffer[: rows.stop - start]
        block_keys = _keys_of(values, images[rows], block)
        if is_exponential:
            torch.addcmul(one, block_keys, factor[rows], out=block).reciprocal_()
        else:
            torch.sub(factor[rows], block_keys, alpha=2, out=block).sigmoid_()
        yield rows, block


def _keys_of(keys: Float[Tensor, "B P A"], images: list[int], buffer: Float[Tensor, "n P A"]) -> Float[Tensor, "n P A"]:
    """The keys of these images: a view where they are one image or successive ones, else a copy in `buffer`."""
    first, count = images[0], len(images)
    if images == list(range(first, first + count)):
        return keys[first : first + count]
    if images.count(first) == count:
        return keys[first : first + 1].expand(count, -1, -1)
    return torch.index_select(keys, 0, torch.tensor(images, device=keys.device), out=buffer)


def _is_small(values: Tensor) -> bool:
    """Whether all are at most `_LARGEST` in magnitude; False for NaN."""
    if not values.numel():
        return True
    least, greatest = torch.aminmax(values.detach())
    return float(least) >= -_LARGEST and float(greatest) <= _LARGEST
