"""Show, Attend and Tell, soft or hard (Xu, Ba, Kiros, Cho, Courville, Salakhutdinov, Zemel, Bengio 2015).

For the annotation vectors a_1 … a_P of an image's regions and the words y_1 … y_T:

    h_0, c_0 = tanh(f_init(mean_i a_i))                                  section 3.1.2
    α_t      = softmax over i of f_att(a_i, h_{t−1})                     eq. 4–6
    z_t      = β_t Σ_i α_ti a_i,   β_t = σ(f_β(h_{t−1}))                 eq. 13, section 4.2.1
    h_t      = LSTM(E y_{t−1}, h_{t−1}, z_t)                             eq. 1–3
    p(y_t)   ∝ exp(L_o (E y_{t−1} + L_h h_t + L_z z_t))                  eq. 7, the deep output layer

The regularizer λ Σ_i (1 − Σ_t α_ti)² encourages attention to every region of the image (eq. 14). With several layers,
h is the top layer's. Any cell can replace the LSTM. With `grid_dim`, a_i is first mapped to ReLU(W a_i + b) of that
dimension, which makes each step faster and the model smaller. `initial_state=linear` leaves out the tanh of h_0 and
c_0, and `output=hidden` predicts from h alone: p(y_t) ∝ exp(L_h h_t). Both are common in code that follows the paper.

Hard attention uses one sampled a_i instead of the mean Σ_i α_ti a_i; see `hard_attention`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from captioner.config import AttentionConfig
from captioner.nn.cells import Hidden
from captioner.nn.decoders.decoder import Decoder
from captioner.nn.decoders.hard_attention import HardAttention, sampled_weights, seeds_of
from captioner.nn.layers.attention import (
    Keys,
    attention_weights,
    build_attention,
    context,
    without_padding,
)
from captioner.nn.layers.doubly_stochastic import doubly_stochastic_loss
from captioner.nn.layers.dropout import Dropout
from captioner.nn.layers.embedding import word_embedding
from captioner.nn.layers.group_by_image import rows_of_captions
from captioner.nn.layers.linear import Linear
from captioner.nn.layers.output import WordOutput
from captioner.nn.layers.stack import RecurrentStack
from captioner.nn.layers.step_contexts import StepContexts
from captioner.nn.layers.step_linear import StepLinear, deferred_weight_gradients
from captioner.nn.packing import PackedCaptions
from captioner.nn.types import (
    DecoderOutput,
    DecoderState,
    DecoderStep,
    ImageFeatures,
    mean_of_regions,
    rows_of_images,
)


class _ImageParts(NamedTuple):
    """grid: (B, P, D); keys: (B, P, A); seeds: (B,) int64, only where decoding samples locations.

    mask: (B, P), that of `ImageFeatures`.
    """

    grid: Tensor
    keys: Keys
    seeds: Tensor | None
    mask: Tensor | None


class _RowParts(NamedTuple):
    """hidden: the recurrent state; position: (N,) int64, the tokens read, only where decoding samples locations."""

    hidden: Hidden
    position: Tensor | None


class AttentionDecoder(Decoder[DecoderState[_ImageParts, _RowParts]]):
    """Attention over the regions before every word."""

    needs_grid = True
    attends = True
    returns_output = True

    def __init__(self, config: AttentionConfig, vocabulary_size: int, feature_dim: int) -> None:
        super().__init__()
        embedding_dim, hidden_dim = config.embedding_dim, config.hidden_dim
        self.grid = Linear(feature_dim, config.grid_dim) if config.grid_dim else None  # not in the paper
        feature_dim = config.grid_dim or feature_dim
        self.embedding = word_embedding(vocabulary_size, embedding_dim, tied=config.tie_embeddings)
        self.stack = RecurrentStack(
            config.cell, embedding_dim, hidden_dim, config.layers, config.dropout, residual=config.residual
        )
        score = "none" if config.attention == "none" else config.score
        self.attention = build_attention(score, feature_dim, hidden_dim, config.attention_dim)
        self.hard = HardAttention(config, vocabulary_size) if config.attention == "hard" else None
        self.attention_at_test = config.hard_at_test if config.attention == "hard" else None
        self.context_to_gates = StepLinear(feature_dim, self.stack.input_columns, bias=False)
        gate_columns = {"scalar": 1, "vector": feature_dim, "none": 0}[config.gate]
        self.gate = StepLinear(hidden_dim, gate_columns) if gate_columns else None  # f_β
        self.init = nn.Linear(feature_dim, self.stack.states * config.layers * hidden_dim)  # f_init
        self.linear_start = config.initial_state == "linear"
        is_deep = config.output == "deep"
        self.hidden_to_word = Linear(hidden_dim, embedding_dim) if is_deep else None  # L_h
        self.context_to_word = Linear(feature_dim, embedding_dim, bias=False) if is_deep else None  # L_z
        output_dim = embedding_dim if is_deep else hidden_dim
        self.output = WordOutput(output_dim, self.embedding, config.dropout, config.tie_embeddings)  # L_o
        self.dropout = Dropout(config.dropout)
        self.doubly_stochastic = config.doubly_stochastic
        for linear in (self.context_to_gates, self.init, self.hidden_to_word, self.context_to_word):
            if linear is not None:
                nn.init.xavier_uniform_(linear.weight)

    def forward(self, features: ImageFeatures, captions: PackedCaptions) -> DecoderOutput:
        """Teacher-forced logits (M, V), and α (M, P)."""
        grid, keys, hidden = self._encode_image(features)
        hidden = tuple(tensor.index_select(0, captions.images) for tensor in hidden)
        embedded = self.dropout(self.embedding(captions.inputs))  # (M, E)
        words = torch.split(self.stack.project(embedded), list(captions.batch_sizes))  # (N, C) for each step
        tops, contexts, attention = [], [], []
        contexts_of_rows = StepContexts(grid)
        energies_of_rows = self.attention.batch_energies(keys)
        rows_by_image = rows_of_captions(captions, len(grid))
        sampler = None if self.hard is None else self.hard.sampler(features, captions, self.attention_at_test or "")
        with deferred_weight_gradients(self):
            for (active, step), words_of_step in zip(captions.steps(), words, strict=True):
                hidden = tuple(tensor[:active] for tensor in hidden)
                rows, top = rows_by_image.first_rows(active), hidden[-self.stack.states]
                mask = None if features.mask is None else features.mask.index_select(0, rows.images)
                energies = without_padding(energies_of_rows(self.attention.query(top), rows), mask)
                if sampler is None:
                    weights = context_weights = attention_weights(energies)
                else:
                    weights, context_weights = sampler.sample(energies, step)
                attended = self._gated(contexts_of_rows(context_weights, rows), top)
                top, hidden = self.stack.step(words_of_step + self.context_to_gates(attended), hidden)
                tops.append(top)
                contexts.append(attended)
                attention.append(weights)
        logits = self._word_logits(embedded, torch.cat(tops), torch.cat(contexts))
        weights = torch.cat(attention)
        losses = doubly_stochastic_loss(weights, captions, self.doubly_stochastic, features.mask)
        if sampler is None:
            return DecoderOutput(logits, weights, losses)
        sampled, entropy = sampler.losses()
        return DecoderOutput(logits, weights, {**losses, **entropy}, sampled)

    def init_state(self, features: ImageFeatures) -> DecoderState[_ImageParts, _RowParts]:
        """One row per image; the grid and its keys are stored once per image."""
        grid, keys, hidden = self._encode_image(features)
        search_keys = self.attention.search_keys(keys)
        if self.attention_at_test != "sample":
            return DecoderState(_ImageParts(grid, search_keys, None, features.mask), _RowParts(hidden, None))
        seeds = seeds_of(features)
        return DecoderState(
            _ImageParts(grid, search_keys, seeds, features.mask), _RowParts(hidden, torch.zeros_like(seeds))
        )

    def step(self, tokens: Int[Tensor, " N"], state: DecoderState[_ImageParts, _RowParts]) -> DecoderStep:
        """Attend, read one token per row, and predict the next token."""
        (grid, keys, seeds, image_mask), (hidden, position) = state.image, state.rows
        top = hidden[-self.stack.states]
        mask = None if image_mask is None else rows_of_images(image_mask, tokens.shape[0])
        energies = without_padding(self.attention.energies(keys, self.attention.query(top)), mask)
        if seeds is None or position is None:
            weights = attention_weights(energies)
        else:
            weights = sampled_weights(energies, rows_of_images(seeds, tokens.shape[0]), position)
            position = position + 1
        attended = self._gated(context(weights, grid), top)
        embedded = self.embedding(tokens)
        top, hidden = self.stack.step(self.stack.project(embedded) + self.context_to_gates(attended), hidden)
        logits = self._word_logits(embedded, top, attended)
        return DecoderStep(logits, DecoderState(state.image, _RowParts(hidden, position)), weights)

    def after_optimizer_step(self, losses: Mapping[str, float]) -> None:
        """Update the baseline of hard attention with the step's cost per token."""
        if self.hard is not None:
            self.hard.update_baseline(losses["words"])

    def _encode_image(self, features: ImageFeatures) -> tuple[Tensor, Tensor, Hidden]:
        """What is computed once per image: grid (B, P, D), keys (B, P, A), and the initial state."""
        if features.grid is None:
            raise ValueError("the attention decoder needs the encoder's grid")
        grid = features.grid if self.grid is None else self.dropout(torch.relu(self.grid(features.grid)))
        initial = self.init(mean_of_regions(grid, features.mask))
        initial = initial if self.linear_start else torch.tanh(initial)
        hidden = torch.split(initial, self.stack.hidden_dim, dim=1)
        return grid, self.attention.keys(grid), tuple(hidden)

    def _gated(self, attended: Float[Tensor, "N D"], top: Float[Tensor, "N H"]) -> Float[Tensor, "N D"]:
        """β z: the context times the gate."""
        return attended if self.gate is None else torch.sigmoid(self.gate(top)) * attended

    def _word_logits(
        self, embedded: Float[Tensor, "M E"], top: Float[Tensor, "M H"], attended: Float[Tensor, "M D"]
    ) -> Float[Tensor, "M V"]:
        """The deep output layer, eq. 7; with output=hidden, of h alone."""
        if self.hidden_to_word is None or self.context_to_word is None:
            from_hidden: Tensor = self.output(top)
            return from_hidden
        hidden = self.hidden_to_word(self.dropout(top))
        logits: Tensor = self.output(embedded + hidden + self.context_to_word(attended))
        return logits
