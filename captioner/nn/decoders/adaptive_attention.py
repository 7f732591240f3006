"""Knowing When to Look: adaptive attention via a visual sentinel (Lu, Xiong, Parikh, Socher 2017).

For the regions a_1 … a_P of an image, with v_i = ReLU(W_a a_i) and v^g = ReLU(W_b mean_i a_i), and words y_1 … y_T:

    x_t = [E y_{t−1}; v^g],   h_t, m_t = LSTM(x_t, h_{t−1}, m_{t−1})      sections 2.2 and 3.1
    s_t = σ(W_x x_t + W_h h_{t−1}) ∘ tanh(m_t)                            eq. 9 and 10: the visual sentinel
    α̂_t = softmax([e(v_1, h_t); … ; e(v_P, h_t); e(s_t, h_t)])            eq. 12
    ĉ_t = Σ_i α̂_ti v_i + β_t s_t,   β_t = α̂_t,P+1                        eq. 11
    p(y_t) = softmax(W_p (ĉ_t + h_t))                                     eq. 13

The sentinel is what the LSTM knows without the image, so β_t says how much of word t did not depend on the image. e is
any score of `captioner.nn.layers.attention`; the paper's is additive. The context does not enter the LSTM, so attention
is computed for all words at once. With several layers, h and m are the top layer's.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from captioner.config import AttentionConfig
from captioner.config.model import needs_memory
from captioner.errors import ConfigError
from captioner.nn.cells import Hidden
from captioner.nn.decoders.decoder import Decoder
from captioner.nn.layers.attention import (
    Keys,
    attention_weights,
    build_attention,
    context,
    context_of_rows,
    without_padding,
)
from captioner.nn.layers.doubly_stochastic import doubly_stochastic_loss
from captioner.nn.layers.dropout import Dropout
from captioner.nn.layers.embedding import word_embedding
from captioner.nn.layers.group_by_image import rows_of_words
from captioner.nn.layers.linear import Linear
from captioner.nn.layers.output import WordOutput
from captioner.nn.layers.stack import RecurrentStack
from captioner.nn.layers.step_linear import deferred_weight_gradients
from captioner.nn.packing import PackedCaptions
from captioner.nn.types import DecoderOutput, DecoderState, DecoderStep, ImageFeatures, rows_of_images


class _ImageParts(NamedTuple):
    """grid: (B, P, H), v_i; keys: (B, P, A); gates: (B, C) and sentinel: (B, H), the terms of v^g in both.

    mask: (B, P), that of `ImageFeatures`.
    """

    grid: Tensor
    keys: Keys
    gates: Tensor
    sentinel: Tensor
    mask: Tensor | None


class _RowParts(NamedTuple):
    """hidden: the recurrent state."""

    hidden: Hidden


class AdaptiveAttentionDecoder(Decoder[DecoderState[_ImageParts, _RowParts]]):
    """Attention over the regions and a sentinel, after the LSTM has read each word."""

    needs_grid = True
    attends = True
    returns_output = True

    def __init__(self, config: AttentionConfig, vocabulary_size: int, feature_dim: int) -> None:
        super().__init__()
        embedding_dim, hidden_dim = config.embedding_dim, config.hidden_dim
        self.embedding = word_embedding(vocabulary_size, embedding_dim, tied=config.tie_embeddings)
        self.stack = RecurrentStack(
            config.cell, embedding_dim, hidden_dim, config.layers, config.dropout, residual=config.residual
        )
        if self.stack.states < 2:
            raise ConfigError(needs_memory(config.cell))
        self.grid = Linear(feature_dim, hidden_dim)  # W_a
        self.image = nn.Linear(feature_dim, hidden_dim)  # W_b
        self.image_to_gates = nn.Linear(hidden_dim, self.stack.input_columns, bias=False)
        self.word_to_sentinel = Linear(embedding_dim, hidden_dim)  # W_x, the columns that read the word
        self.image_to_sentinel = nn.Linear(hidden_dim, hidden_dim, bias=False)  # W_x, the columns that read v^g
        self.hidden_to_sentinel = Linear(hidden_dim, hidden_dim, bias=False)  # W_h
        self.attention = build_attention(config.score, hidden_dim, hidden_dim, config.attention_dim)
        self.sentinel_key = Linear(hidden_dim, config.attention_dim, bias=False)
        self.output = WordOutput(hidden_dim, self.embedding, config.dropout, config.tie_embeddings)  # W_p
        self.dropout = Dropout(config.dropout)
        self.doubly_stochastic = config.doubly_stochastic
        for linear in (self.image_to_gates, self.word_to_sentinel, self.image_to_sentinel, self.hidden_to_sentinel):
            nn.init.xavier_uniform_(linear.weight)

    def forward(self, features: ImageFeatures, captions: PackedCaptions) -> DecoderOutput:
        """Teacher-forced logits (M, V), and α̂ over the regions (M, P)."""
        image = self._image_parts(features)
        rows = rows_of_words(captions, len(image.grid))
        embedded = self.dropout(self.embedding(captions.inputs))  # (M, E)
        inputs = self.stack.project(embedded) + image.gates.index_select(0, rows.images)
        hidden = self.stack.initial(inputs[: captions.batch_sizes[0]])
        previous_tops, tops, memories = [], [], []
        with deferred_weight_gradients(self):
            for inputs_of_step in torch.split(inputs, list(captions.batch_sizes)):
                hidden = tuple(tensor[: len(inputs_of_step)] for tensor in hidden)
                previous_tops.append(self._top(hidden))
                top, hidden = self.stack.step(inputs_of_step, hidden)
                tops.append(top)
                memories.append(self._memory(hidden))
        top = torch.cat(tops)
        image_term = image.sentinel.index_select(0, rows.images)
        sentinel = self._sentinel(embedded, image_term, torch.cat(previous_tops), torch.cat(memories))
        queries = self.attention.query(top)
        energies = self.attention.batch_energies(image.keys)(queries, rows)
        mask = None if image.mask is None else image.mask.index_select(0, rows.images)
        weights, beta = self._weights(without_padding(energies, mask), sentinel, queries)
        attended = context_of_rows(weights, image.grid, rows) + beta * sentinel
        losses = doubly_stochastic_loss(weights, captions, self.doubly_stochastic, image.mask)
        return DecoderOutput(self.output(attended + top), weights, losses)

    def init_state(self, features: ImageFeatures) -> DecoderState[_ImageParts, _RowParts]:
        """One row per image; h and m are zero."""
        image = self._image_parts(features)
        image = image._replace(keys=self.attention.search_keys(image.keys))
        return DecoderState(image, _RowParts(self.stack.initial(image.gates)))

    def step(self, tokens: Int[Tensor, " N"], state: DecoderState[_ImageParts, _RowParts]) -> DecoderStep:
        """Read one token per row, attend, and predict the next token."""
        image, rows = state.image, tokens.shape[0]
        embedded = self.embedding(tokens)
        inputs = self.stack.project(embedded) + rows_of_images(image.gates, rows)
        top, hidden = self.stack.step(inputs, state.rows.hidden)
        image_term = rows_of_images(image.sentinel, rows)
        sentinel = self._sentinel(embedded, image_term, self._top(state.rows.hidden), self._memory(hidden))
        queries = self.attention.query(top)
        mask = None if image.mask is None else rows_of_images(image.mask, rows)
        energies = without_padding(self.attention.energies(image.keys, queries), mask)
        weights, beta = self._weights(energies, sentinel, queries)
        attended = context(weights, image.grid) + beta * sentinel
        return DecoderStep(self.output(attended + top), DecoderState(image, _RowParts(hidden)), weights)

    def _image_parts(self, features: ImageFeatures) -> _ImageParts:
        """What is computed once per image."""
        if features.grid is None:
            raise ValueError("the attention decoder needs the encoder's grid")
        grid = self.dropout(torch.relu(self.grid(features.grid)))
        image = self.dropout(torch.relu(self.image(features.grid_mean())))
        gates, sentinel = self.image_to_gates(image), self.image_to_sentinel(image)
        return _ImageParts(grid, self.attention.keys(grid), gates, sentinel, features.mask)

    def _top(self, hidden: Hidden) -> Float[Tensor, "N H"]:
        """h of the top layer."""
        return hidden[-self.stack.states]

    def _memory(self, hidden: Hidden) -> Float[Tensor, "N H"]:
        """m of the top layer: the second state of every LSTM."""
        return hidden[1 - self.stack.states]

    def _sentinel(
        self,
        embedded: Float[Tensor, "N E"],
        image_term: Float[Tensor, "N H"],
        previous_top: Float[Tensor, "N H"],
        memory: Float[Tensor, "N H"],
    ) -> Float[Tensor, "N H"]:
        """s_t, eq. 9 and 10."""
        gate = torch.sigmoid(self.word_to_sentinel(embedded) + image_term + self.hidden_to_sentinel(previous_top))
        return gate * torch.tanh(memory)

    def _weights(
        self, energies: Float[Tensor, "N P"], sentinel: Float[Tensor, "N H"], queries: Float[Tensor, "N A"]
    ) -> tuple[Float[Tensor, "N P"], Float[Tensor, "N 1"]]:
        """α̂ over the regions, and β."""
        # For its energy, each row's sentinel is a grid with one region.
        sentinel_energy = self.attention.energies(self.sentinel_key(sentinel).unsqueeze(1), queries)
        weights = attention_weights(torch.cat([energies, sentinel_energy], dim=1))
        return weights[:, :-1], weights[:, -1:]
