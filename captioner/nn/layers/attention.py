"""Attention: an energy for every region of the grid, weights from the energies, and the weighted mean of the grid.

    α = softmax(e),   z = Σ_i α_i a_i                  Xu et al. 2015, eq. 5, 6 and 13

    additive        e_i = w·tanh(Wa·a_i + Wh·h)        Bahdanau et al. 2015, appendix A.1.2
    additive_relu   e_i = w·ReLU(Wa·a_i + Wh·h)        a common variant in captioning code
    dot             e_i = (Wh·h)·(Wa·a_i) / √A         Vaswani et al. 2017, section 3.2.1
    none            e_i = 0                            equal weights: the baseline for attention

Wa·a (`keys`) is computed once per image and shared by all of its rows; Wh·h (`query`) is computed once per step. To add
a score, subclass `Attention` and name the class in `build_attention` and `AttentionConfig`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from captioner.nn.layers.additive_kernel import ExponentialKeys, StepEnergies, energies_in_blocks, exponential_keys
from captioner.nn.layers.group_by_image import RowsByImage
from captioner.nn.layers.linear import Linear
from captioner.nn.layers.step_linear import StepLinear

Keys = Tensor | ExponentialKeys
"""(B, P, A): Wa·a of the regions, or what a search computes faster with."""

Energies = Callable[[Tensor, RowsByImage], Tensor]
"""Queries (N, A) and the images of their rows → energies (N, P)."""


class Attention(nn.Module):
    """The contract of a score.

    keys: (B, P, D) → (B, P, A), which queries are compared with; query: (N, H) → (N, A). Both may be modules.
    """

    keys: Callable[[Tensor], Tensor]
    query: Callable[[Tensor], Tensor]

    def search_keys(self, keys: Keys) -> Keys:
        """The keys in the form in which a search keeps them, once per image; `energies` takes both forms."""
        return keys

    def energies(self, keys: Keys, queries: Tensor) -> Tensor:
        """e (N, P) of N = B·K rows, the K rows of one image adjacent."""
        raise NotImplementedError

    def batch_energies(self, keys: Keys) -> Energies:
        """For teacher forcing: a function that computes e of rows in any order, called once per step."""
        raise NotImplementedError


class AdditiveAttention(Attention):
    """e = w·tanh(keys + query)."""

    def __init__(self, feature_dim: int, hidden_dim: int, attention_dim: int) -> None:
        super().__init__()
        self.keys = Linear(feature_dim, attention_dim, bias=False)
        self.query = StepLinear(hidden_dim, attention_dim)
        self.score = nn.Linear(attention_dim, 1, bias=False)  # a bias would cancel in the softmax

    def search_keys(self, keys: Keys) -> Keys:
        """exp(2 keys) on a CPU in inference mode."""
        if isinstance(keys, ExponentialKeys) or not torch.is_inference_mode_enabled() or not _in_blocks(keys):
            return keys
        return exponential_keys(keys) or keys

    def energies(self, keys: Keys, queries: Float[Tensor, "N A"]) -> Float[Tensor, "N P"]:
        """e (N, P). On a CPU without gradient, it allocates no tensor of N·P·A elements."""
        values = keys.values if isinstance(keys, ExponentialKeys) else keys
        if isinstance(keys, Tensor) and (torch.is_grad_enabled() or not _in_blocks(keys)):
            return self.reference_energies(keys, queries)
        images = torch.arange(len(values)).repeat_interleave(len(queries) // len(values))
        return energies_in_blocks(keys, self.score.weight.squeeze(0), queries, images)

    def reference_energies(self, keys: Float[Tensor, "B P A"], queries: Float[Tensor, "N A"]) -> Float[Tensor, "N P"]:
        """e (N, P), computed as the equation is written, with three tensors of N·P·A elements."""
        images, regions, attention_dim = keys.shape
        energy: Tensor = self.score(torch.tanh(keys.unsqueeze(1) + queries.view(images, -1, 1, attention_dim)))
        return energy.view(-1, regions)

    def batch_energies(self, keys: Keys) -> Energies:
        """See `Attention`. On a CPU it allocates no tensor of N·P·A elements (see `additive_kernel`)."""
        assert isinstance(keys, Tensor)
        if not _in_blocks(keys):
            return lambda queries, rows: self.energies(keys.index_select(0, rows.images), queries)
        energies = StepEnergies(keys, self.score.weight.squeeze(0))
        return lambda queries, rows: energies(queries, rows.images)


class ReLUAttention(AdditiveAttention):
    """e = w·ReLU(keys + query)."""

    def search_keys(self, keys: Keys) -> Keys:
        """The keys."""
        return keys

    def energies(self, keys: Keys, queries: Float[Tensor, "N A"]) -> Float[Tensor, "N P"]:
        """e (N, P), with two tensors of N·P·A elements."""
        assert isinstance(keys, Tensor)
        images, regions, attention_dim = keys.shape
        energy: Tensor = self.score(torch.relu(keys.unsqueeze(1) + queries.view(images, -1, 1, attention_dim)))
        return energy.view(-1, regions)

    def batch_energies(self, keys: Keys) -> Energies:
        """See `Attention`."""
        assert isinstance(keys, Tensor)
        return lambda queries, rows: self.energies(keys.index_select(0, rows.images), queries)


def _in_blocks(keys: Tensor) -> bool:
    """Whether energies are computed in blocks: on a CPU, without autocast, and not under torch.compile."""
    return keys.device.type == "cpu" and not torch.is_autocast_enabled("cpu") and not torch.compiler.is_compiling()


class DotProductAttention(Attention):
    """e = query·keys / √A."""

    def __init__(self, feature_dim: int, hidden_dim: int, attention_dim: int) -> None:
        super().__init__()
        self.scale = 1 / math.sqrt(attention_dim)  # otherwise the softmax of many dimensions is saturated at first
        self.keys = Linear(feature_dim, attention_dim, bias=False)
        self.query = StepLinear(hidden_dim, attention_dim)

    def energies(self, keys: Keys, queries: Float[Tensor, "N A"]) -> Float[Tensor, "N P"]:
        """e (N, P), one matrix product per image."""
        assert isinstance(keys, Tensor)
        images, regions, attention_dim = keys.shape
        return self.scale * torch.bmm(queries.view(images, -1, attention_dim), keys.transpose(1, 2)).view(-1, regions)

    def batch_energies(self, keys: Keys) -> Energies:
        """See `Attention`. Rows are grouped by image first."""
        assert isinstance(keys, Tensor)
        transposed_keys = self.scale * keys.transpose(1, 2)
        return lambda queries, rows: rows.ungroup(torch.bmm(rows.group(queries), transposed_keys))


class UniformAttention(Attention):
    """e = 0: the context is the mean of the grid at every step. It has no parameters."""

    def keys(self, grid: Float[Tensor, "B P D"]) -> Float[Tensor, "B P 0"]:
        """Keys without dimensions: energies do not depend on them."""
        return grid[:, :, :0]

    def query(self, hidden: Float[Tensor, "N H"]) -> Float[Tensor, "N 0"]:
        """Queries without dimensions."""
        return hidden[:, :0]

    def energies(self, keys: Keys, queries: Float[Tensor, "N 0"]) -> Float[Tensor, "N P"]:
        """Zeros."""
        assert isinstance(keys, Tensor)
        return queries.new_zeros(queries.shape[0], keys.shape[1])

    def batch_energies(self, keys: Keys) -> Energies:
        """See `Attention`; zeros."""
        return lambda queries, rows: self.energies(keys, queries)


def build_attention(score: str, feature_dim: int, hidden_dim: int, attention_dim: int) -> Attention:
    """The attention of this score: "additive", "additive_relu", "dot" or "none"."""
    if score == "none":
        return UniformAttention()
    if score == "dot":
        return DotProductAttention(feature_dim, hidden_dim, attention_dim)
    if score == "additive_relu":
        return ReLUAttention(feature_dim, hidden_dim, attention_dim)
    return AdditiveAttention(feature_dim, hidden_dim, attention_dim)


def without_padding(energies: Float[Tensor, "N P"], mask: Bool[Tensor, "N P"] | None) -> Float[Tensor, "N P"]:
    """The energies, so low where `mask` is False that the softmax of these regions is exactly 0.

    They stay finite: 0 · log 0 in the entropy of hard attention would be NaN.
    """
    return energies if mask is None else energies.masked_fill(~mask, torch.finfo(energies.dtype).min)


def attention_weights(energies: Float[Tensor, "N P"]) -> Float[Tensor, "N P"]:
    """α = softmax(e), in float32 or wider: under autocast, sums over α would otherwise lose precision."""
    return torch.softmax(energies, dim=1, dtype=torch.promote_types(energies.dtype, torch.float32))


def context(weights: Float[Tensor, "N P"], grid: Float[Tensor, "B P D"]) -> Float[Tensor, "N D"]:
    """z of N = B·K rows, the K rows of one image adjacent; each grid is read once for its K rows."""
    images, regions, feature_dim = grid.shape
    return torch.bmm(weights.view(images, -1, regions), grid).view(-1, feature_dim)


def context_of_rows(
    weights: Float[Tensor, "N P"], grid: Float[Tensor, "B P D"], rows: RowsByImage
) -> Float[Tensor, "N D"]:
    """z of rows in any order; each grid is read once for all rows of its image."""
    return rows.ungroup(torch.bmm(rows.group(weights), grid))
