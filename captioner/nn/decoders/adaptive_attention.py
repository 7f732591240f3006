"""Knowing When to Look: adaptive attention via a visual sentinel (Lu, Xiong, Parikh, Socher 2017).

For the grid a_1 … a_P of an image, with v_i = ReLU(W_a a_i) and v^g = ReLU(W_b mean_i a_i), and the words y_1 … y_T:

    x_t = [E y_{t−1}; v^g],   h_t, m_t = LSTM(x_t, h_{t−1}, m_{t−1})      section 2.2 and 3.1
    s_t = σ(W_x x_t + W_h h_{t−1}) ∘ tanh(m_t)                            eq. 9 and 10: the visual sentinel
    α̂_t = softmax([e(v_1, h_t); … ; e(v_P, h_t); e(s_t, h_t)])            eq. 12
    ĉ_t = Σ_i α̂_ti v_i + β_t s_t,   β_t = α̂_t,P+1                        eq. 11
    p(y_t) = softmax(W_p (ĉ_t + h_t))                                     eq. 13

The sentinel is what the LSTM knows without looking, so β_t says how much of word t needed no image. e is any of
`attention`'s scores; additive is the paper's. What was looked at does not enter the LSTM, so attention is computed for
all words at once. With more layers than one, h and m are the top layer's.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from captioner.config import AttentionConfig
from captioner.nn.layers.attention import attention_weights, build_attention, context, context_of_rows
from captioner.nn.layers.group_by_image import rows_of_words
from captioner.nn.layers.output import WordOutput
from captioner.nn.layers.stack import RecurrentStack
from captioner.nn.layers.step_linear import deferred_weight_gradients
from captioner.nn.packing import PackedCaptions
from captioner.nn.types import DecoderOutput, DecoderState, DecoderStep, ImageFeatures, rows_of_images


class _Image(NamedTuple):
    """What is computed once an image: v (B, P, H), its keys (B, P, A), and v^g's part of gates and sentinel."""

    grid: Tensor
    keys: Tensor
    gates: Tensor
    sentinel: Tensor


class AdaptiveAttentionDecoder(nn.Module):
    """Attention over the grid after every word that was read, with a sentinel to look at instead."""

    needs_grid = True

    def __init__(self, config: AttentionConfig, vocabulary_size: int, feature_dim: int) -> None:
        super().__init__()
        embedding_dim, hidden_dim = config.embedding_dim, config.hidden_dim
        self.embedding = nn.Embedding(vocabulary_size, embedding_dim)
        self.stack = RecurrentStack(
            config.cell, embedding_dim, hidden_dim, config.layers, config.dropout, residual=config.residual
        )
        self.grid = nn.Linear(feature_dim, hidden_dim)  # W_a
        self.image = nn.Linear(feature_dim, hidden_dim)  # W_b
        self.image_to_gates = nn.Linear(hidden_dim, self.stack.input_columns, bias=False)
        self.word_to_sentinel = nn.Linear(embedding_dim, hidden_dim)  # W_x, the part that reads the word
        self.image_to_sentinel = nn.Linear(hidden_dim, hidden_dim, bias=False)  # W_x, the part that reads v^g
        self.hidden_to_sentinel = nn.Linear(hidden_dim, hidden_dim, bias=False)  # W_h
        self.attention = build_attention(config.score, hidden_dim, hidden_dim, config.attention_dim)
        self.sentinel_key = nn.Linear(hidden_dim, config.attention_dim, bias=False)
        self.output = WordOutput(hidden_dim, self.embedding, config.dropout, config.tie_embeddings)  # W_p
        self.dropout = nn.Dropout(config.dropout)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        for linear in (self.image_to_gates, self.word_to_sentinel, self.image_to_sentinel, self.hidden_to_sentinel):
            nn.init.xavier_uniform_(linear.weight)

    def forward(self, features: ImageFeatures, captions: PackedCaptions) -> DecoderOutput:
        """Logits (M, V) of every word of `captions`, given the words before it, and α̂ over the grid (M, P)."""
        image = self._look_at_image(features)
        rows = rows_of_words(captions, len(image.grid))
        embedded = self.dropout(self.embedding(captions.inputs))  # (M, E)
        inputs = self.stack.project(embedded) + image.gates.index_select(0, rows.images)
        hidden = self.stack.initial(inputs[: captions.batch_sizes[0]])
        before, tops, memories = [], [], []
        with deferred_weight_gradients(self):
            for going, step in captions.steps():
                hidden = tuple(tensor[:going] for tensor in hidden)
                before.append(self._top(hidden))
                top, hidden = self.stack.step(inputs[step], hidden)
                tops.append(top)
                memories.append(self._memory(hidden))
        top = torch.cat(tops)
        of_image = image.sentinel.index_select(0, rows.images)
        sentinel = self._sentinel(embedded, of_image, torch.cat(before), torch.cat(memories))
        queries = self.attention.query(top)
        weights, beta = self._weights(self.attention.batch_energies(image.keys)(queries, rows), sentinel, queries)
        seen = context_of_rows(weights, image.grid, rows) + beta * sentinel
        return DecoderOutput(self.output(seen + top), weights)

    def init_state(self, features: ImageFeatures) -> DecoderState:
        """B images, one row each; h and m start at zero."""
        image = self._look_at_image(features)
        return DecoderState(tuple(image), self.stack.initial(image.gates))

    def step(self, tokens: Int[Tensor, " N"], state: DecoderState) -> DecoderStep:
        """Read one word a row, look, say the next."""
        image, rows = _Image(*state.image), len(tokens)
        embedded = self.embedding(tokens)
        inputs = self.stack.project(embedded) + rows_of_images(image.gates, rows)
        top, hidden = self.stack.step(inputs, state.hidden)
        of_image = rows_of_images(image.sentinel, rows)
        sentinel = self._sentinel(embedded, of_image, self._top(state.hidden), self._memory(hidden))
        queries = self.attention.query(top)
        weights, beta = self._weights(self.attention.energies(image.keys, queries), sentinel, queries)
        seen = context(weights, image.grid) + beta * sentinel
        return DecoderStep(self.output(seen + top), DecoderState(state.image, hidden), weights)

    def _look_at_image(self, features: ImageFeatures) -> _Image:
        if features.grid is None:
            raise ValueError("the attention decoder needs the encoder's grid")
        grid = self.dropout(torch.relu(self.grid(features.grid)))
        image = self.dropout(torch.relu(self.image(features.grid.mean(dim=1))))
        return _Image(grid, self.attention.keys(grid), self.image_to_gates(image), self.image_to_sentinel(image))

    def _top(self, hidden: tuple[Tensor, ...]) -> Float[Tensor, "N H"]:
        return hidden[-self.stack.states]

    def _memory(self, hidden: tuple[Tensor, ...]) -> Float[Tensor, "N H"]:
        return hidden[1 - self.stack.states]  # every LSTM carries h, then m

    def _sentinel(
        self,
        embedded: Float[Tensor, "N E"],
        image: Float[Tensor, "N H"],
        before: Float[Tensor, "N H"],
        memory: Float[Tensor, "N H"],
    ) -> Float[Tensor, "N H"]:
        """s_t, eq. 9 and 10."""
        gate = torch.sigmoid(self.word_to_sentinel(embedded) + image + self.hidden_to_sentinel(before))
        return gate * torch.tanh(memory)

    def _weights(
        self, energies: Float[Tensor, "N P"], sentinel: Float[Tensor, "N H"], queries: Float[Tensor, "N A"]
    ) -> tuple[Float[Tensor, "N P"], Float[Tensor, "N 1"]]:
        """α̂ over the grid, and β."""
        own = self.attention.energies(self.sentinel_key(sentinel).unsqueeze(1), queries)  # a grid of one cell a row
        weights = attention_weights(torch.cat([energies, own], dim=1))
        return weights[:, :-1], weights[:, -1:]
