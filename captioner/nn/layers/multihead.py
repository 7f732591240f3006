"""Attention with several heads, and the sublayers of a transformer (Vaswani et al. 2017, section 3).

attention(Q, K, V) = softmax(Q Kᵀ / √d) V                                    eq. 1
heads(Q, m)        = [attention(Q^i, W_K^i m + b_K^i, W_V^i m + b_V^i)]_i    section 3.2.2, Q = W_Q q + b_Q
multihead(q, m)    = W_O heads(W_Q q + b_Q, m) + b_O
ffn(x)             = W_2 ReLU(W_1 x + b_1) + b_2                             eq. 2
sublayer(x, f)     = x + f(norm(x)) (norm=pre),  norm(x + f(x)) (norm=post)  section 3.1 has post
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from captioner.config.attention_models import TransformerConfig
from captioner.nn.layers.dropout import Dropout, dropout
from captioner.nn.layers.group_by_image import RowsByImage
from captioner.nn.layers.linear import Linear


class KeysAndValues(NamedTuple):
    """What is attended to: keys and values (B, P, H), and a mask (B, P), False for padding."""

    keys: Tensor
    values: Tensor
    mask: Tensor | None = None


class Heads(nn.Module):
    """heads(Q, m): the results of all heads side by side."""

    def __init__(self, size: int, heads: int, dropout: float) -> None:
        """`size`: H, of queries, memory and results; `dropout`: on the weights."""
        super().__init__()
        self.heads, self.drop = heads, dropout
        self.query, self.key, self.value = (Linear(size, size) for _ in range(3))
        for linear in (self.query, self.key, self.value):
            nn.init.xavier_uniform_(linear.weight)

    def project(self, memory: Float[Tensor, "*B H"]) -> tuple[Float[Tensor, "*B H"], Float[Tensor, "*B H"]]:
        """W_K m + b_K and W_V m + b_V, of all heads."""
        return self.key(memory), self.value(memory)

    def attend(
        self, queries: Float[Tensor, "B S H"], memory: KeysAndValues, *, causal: bool = False
    ) -> Float[Tensor, "B S H"]:
        """Without the weights, which the fused product does not return."""
        mask = None if memory.mask is None else memory.mask[:, None, None]
        keys, values = self._split(memory.keys), self._split(memory.values)
        drop = self.drop if self.training else 0.0
        return _join(F.scaled_dot_product_attention(self._split(queries), keys, values, mask, drop, causal))

    def attend_with_weights(
        self, queries: Float[Tensor, "B S H"], memory: KeysAndValues
    ) -> tuple[Float[Tensor, "B S H"], Float[Tensor, "B S P"]]:
        """What `attend` returns, and the weights, the mean over the heads."""
        split = self._split(queries)
        energies = split @ self._split(memory.keys).transpose(2, 3) / math.sqrt(split.shape[-1])
        if memory.mask is not None:
            energies = energies.masked_fill(~memory.mask[:, None, None], torch.finfo(energies.dtype).min)
        weights = torch.softmax(energies, dim=3, dtype=torch.promote_types(energies.dtype, torch.float32))
        values = self._split(memory.values)
        dropped = dropout(weights, self.drop, self.training).to(values.dtype)
        return _join(dropped @ values), weights.mean(1)

    def _split(self, x: Float[Tensor, "B S H"]) -> Float[Tensor, "B heads S d"]:
        return x.view(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)


class MultiHeadAttention(Heads):
    """multihead(q, m). Either of N = B·K rows, the K rows of an image adjacent, or of M tokens without padding.

    Of tokens, `rows` says which of the B memories each attends to (that of its image, or of its caption) and where it
    stands among those that do. What has no padding is computed for M tokens; only the heads see padded tensors.
    """

    def __init__(self, size: int, heads: int, dropout: float) -> None:
        super().__init__(size, heads, dropout)
        self.out = Linear(size, size)
        nn.init.xavier_uniform_(self.out.weight)

    def forward(
        self,
        x: Float[Tensor, "*N H"],
        memory: KeysAndValues,
        rows: RowsByImage | None = None,
        *,
        causal: bool = False,
    ) -> Float[Tensor, "*N H"]:
        """x: (N, T, H), or (M, H) with `rows`; `memory`: of B; causal: word t attends to the words up to t."""
        attended = self.attend(self._queries(x, memory, rows), memory, causal=causal)
        result: Tensor = self.out(attended.reshape(x.shape) if rows is None else rows.ungroup(attended))
        return result

    def with_weights(
        self, x: Float[Tensor, "*N H"], memory: KeysAndValues, rows: RowsByImage | None = None
    ) -> tuple[Float[Tensor, "*N H"], Float[Tensor, "*N P"]]:
        """What `forward` returns, and the weights, the mean over the heads."""
        attended, weights = self.attend_with_weights(self._queries(x, memory, rows), memory)
        if rows is not None:
            return self.out(rows.ungroup(attended)), rows.ungroup(weights)
        return self.out(attended.reshape(x.shape)), weights.reshape(*x.shape[:-1], -1)

    def _queries(self, x: Tensor, memory: KeysAndValues, rows: RowsByImage | None) -> Float[Tensor, "B S H"]:
        """W_Q x + b_Q of all that attend to one memory side by side."""
        queries: Tensor = self.query(x)
        if rows is not None:
            return rows.group(queries)
        return queries.reshape(memory.keys.shape[0], -1, queries.shape[2])


class Sublayers(nn.Module):
    """Self-attention, a feed-forward network, and the residual connection and normalization of `count` sublayers."""

    def __init__(self, config: TransformerConfig, count: int) -> None:
        super().__init__()
        self.is_pre = config.norm == "pre"
        self.self_attention = MultiHeadAttention(config.hidden_dim, config.heads, config.dropout)
        self.feed_forward = nn.Sequential(
            Linear(config.hidden_dim, config.feed_forward_dim),
            nn.ReLU(),
            Dropout(config.dropout),
            Linear(config.feed_forward_dim, config.hidden_dim),
        )
        self.norms = nn.ModuleList(layer_norm(config) for _ in range(count))
        self.dropout = Dropout(config.dropout)

    def before(self, x: Tensor, number: int) -> Tensor:
        """The input of sublayer `number`."""
        normalized: Tensor = self.norms[number](x) if self.is_pre else x
        return normalized

    def after(self, x: Tensor, result: Tensor, number: int) -> Tensor:
        """x after the residual connection of sublayer `number`, whose output is `result`."""
        x = x + self.dropout(result)
        normalized: Tensor = x if self.is_pre else self.norms[number](x)
        return normalized


class _UnbiasedLayerNorm(nn.Module):
    """γ (x − mean) / (s + 10⁻⁶) + β with the unbiased deviation s: that of the Annotated Transformer (Rush 2018)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(size)), nn.Parameter(torch.zeros(size))

    def forward(self, x: Float[Tensor, "... H"]) -> Float[Tensor, "... H"]:
        """Normalized over the last dimension."""
        return self.weight * (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-6) + self.bias


def layer_norm(config: TransformerConfig) -> nn.Module:
    """Ba, Kiros & Hinton 2016, in one of its two forms."""
    return _UnbiasedLayerNorm(config.hidden_dim) if config.layer_norm == "unbiased" else nn.LayerNorm(config.hidden_dim)


def _join(attended: Float[Tensor, "B heads S d"]) -> Float[Tensor, "B S H"]:
    return attended.transpose(1, 2).flatten(2)
