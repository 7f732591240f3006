"""Where to look: an energy for every cell of the grid, weights from the energies, and the grid's weighted mean.

    α = softmax(e),   z = Σ_i α_i a_i                  Xu et al. 2015, eq. 5, 6 and 13

    additive   e_i = w·tanh(Wa·a_i + Wh·h)             Bahdanau et al. 2015, appendix A.1.2
    dot        e_i = (Wh·h)·(Wa·a_i) / √A              Vaswani et al. 2017, section 3.2.1
    none       e_i = 0                                 every cell alike: what looking is to be measured against

Wa·a (`keys`) is computed once an image and shared by all the rows that look at it; Wh·h (`query`) once a word. To add a
score: a class with what `Attention` asks for, a line in `build_attention`, its name in `AttentionConfig`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from captioner.nn.layers.additive_kernel import StepEnergies, energies_in_blocks
from captioner.nn.layers.group_by_image import RowsByImage
from captioner.nn.layers.step_linear import StepLinear

Energies = Callable[[Tensor, RowsByImage], Tensor]
"""Queries (N, A) of rows, and whose they are → energies (N, P)."""


@runtime_checkable
class Attention(Protocol):
    """What the decoders ask of a score."""

    def keys(self, grid: Tensor) -> Tensor:
        """(B, P, D) → (B, P, A): what a query is compared with."""
        ...

    def query(self, hidden: Tensor) -> Tensor:
        """(N, H) → (N, A)."""
        ...

    def energies(self, keys: Tensor, queries: Tensor) -> Tensor:
        """e (N, P) of N rows that stand side by side by image, K to each of the B images."""
        ...

    def batch_energies(self, keys: Tensor) -> Energies:
        """The same for a batch of captions that is learnt from, whose rows are in no order; one call a step."""
        ...


class AdditiveAttention(nn.Module):
    """e = w·tanh(keys + query)."""

    def __init__(self, feature_dim: int, hidden_dim: int, attention_dim: int) -> None:
        super().__init__()
        self.keys = nn.Linear(feature_dim, attention_dim, bias=False)
        self.query = StepLinear(hidden_dim, attention_dim)
        self.score = nn.Linear(attention_dim, 1, bias=False)  # a bias would cancel in the softmax

    def energies(self, keys: Float[Tensor, "B P A"], queries: Float[Tensor, "N A"]) -> Float[Tensor, "N P"]:
        """On a CPU without a tensor of N·P·A numbers, where no gradient is wanted."""
        if torch.is_grad_enabled() or not _in_blocks(keys):
            return self.reference_energies(keys, queries)
        images = torch.arange(len(keys)).repeat_interleave(len(queries) // len(keys))
        return energies_in_blocks(keys, self.score.weight.squeeze(0), queries, images)

    def reference_energies(self, keys: Float[Tensor, "B P A"], queries: Float[Tensor, "N A"]) -> Float[Tensor, "N P"]:
        """The equation as it stands: three tensors of N·P·A numbers."""
        images, cells, attention_dim = keys.shape
        energy: Tensor = self.score(torch.tanh(keys.unsqueeze(1) + queries.view(images, -1, 1, attention_dim)))
        return energy.view(-1, cells)

    def batch_energies(self, keys: Float[Tensor, "B P A"]) -> Energies:
        """On a CPU without such tensors (see `attention_energy`)."""
        if not _in_blocks(keys):
            return lambda queries, rows: self.energies(keys.index_select(0, rows.images), queries)
        energies = StepEnergies(keys, self.score.weight.squeeze(0))
        return lambda queries, rows: energies(queries, rows.images)


def _in_blocks(keys: Tensor) -> bool:
    """Whether energies are computed block by block: on a CPU, in the keys' own type, and not while compiling."""
    return keys.device.type == "cpu" and not torch.is_autocast_enabled("cpu") and not torch.compiler.is_compiling()


class DotProductAttention(nn.Module):
    """e = query·keys / √A."""

    def __init__(self, feature_dim: int, hidden_dim: int, attention_dim: int) -> None:
        super().__init__()
        self.scale = 1 / math.sqrt(attention_dim)  # or the softmax of many dimensions starts saturated
        self.keys = nn.Linear(feature_dim, attention_dim, bias=False)
        self.query = StepLinear(hidden_dim, attention_dim)

    def energies(self, keys: Float[Tensor, "B P A"], queries: Float[Tensor, "N A"]) -> Float[Tensor, "N P"]:
        """One product an image."""
        images, cells, attention_dim = keys.shape
        return self.scale * torch.bmm(queries.view(images, -1, attention_dim), keys.transpose(1, 2)).view(-1, cells)

    def batch_energies(self, keys: Float[Tensor, "B P A"]) -> Energies:
        """Rows are brought side by side by image first."""
        turned = self.scale * keys.transpose(1, 2)
        return lambda queries, rows: rows.ungroup(torch.bmm(rows.group(queries), turned))


class UniformAttention(nn.Module):
    """e = 0: the context is the grid's mean at every word. It has no parameters."""

    def keys(self, grid: Float[Tensor, "B P D"]) -> Float[Tensor, "B P 0"]:
        """There is nothing to compare with."""
        return grid[:, :, :0]

    def query(self, hidden: Float[Tensor, "N H"]) -> Float[Tensor, "N 0"]:
        """Nor anything to compare."""
        return hidden[:, :0]

    def energies(self, keys: Float[Tensor, "B P 0"], queries: Float[Tensor, "N 0"]) -> Float[Tensor, "N P"]:
        """Zeros."""
        return queries.new_zeros(len(queries), keys.shape[1])

    def batch_energies(self, keys: Float[Tensor, "B P 0"]) -> Energies:
        """Zeros."""
        return lambda queries, rows: self.energies(keys, queries)


def build_attention(score: str, feature_dim: int, hidden_dim: int, attention_dim: int) -> Attention:
    """The attention of this score: "additive", "dot" or "none"."""
    if score == "none":
        return UniformAttention()
    if score == "dot":
        return DotProductAttention(feature_dim, hidden_dim, attention_dim)
    return AdditiveAttention(feature_dim, hidden_dim, attention_dim)


def attention_weights(energies: Float[Tensor, "N P"]) -> Float[Tensor, "N P"]:
    """α in float32 at least: under autocast the energies are shorter, and the sums over α would lose digits."""
    return torch.softmax(energies, dim=1, dtype=torch.promote_types(energies.dtype, torch.float32))


def context(weights: Float[Tensor, "N P"], grid: Float[Tensor, "B P D"]) -> Float[Tensor, "N D"]:
    """z of N = B·K rows that stand side by side by image: each image's grid is read once for its K rows."""
    images, cells, feature_dim = grid.shape
    return torch.bmm(weights.view(images, -1, cells), grid).view(-1, feature_dim)


def context_of_rows(
    weights: Float[Tensor, "N P"], grid: Float[Tensor, "B P D"], rows: RowsByImage
) -> Float[Tensor, "N D"]:
    """z of rows whose images are in no order; a grid is still read once an image."""
    return rows.ungroup(torch.bmm(rows.group(weights), grid))
