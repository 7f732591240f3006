"""Up-Down: an attention LSTM and a language LSTM (Anderson, He, Buehler et al. 2018, section 3.2).

For the regions v_1 … v_k, their mean v̄ and the words y_1 … y_T:

    x¹_t = [h²_{t−1}; v̄; W_e y_t],   h¹_t = LSTM(x¹_t, h¹_{t−1})          eq. 1 and 2: the attention LSTM
    a_it = w_a·tanh(W_va v_i + W_ha h¹_t),   α_t = softmax(a_t)           eq. 3 and 4
    v̂_t  = Σ_i α_it v_i                                                   eq. 5
    x²_t = [v̂_t; h¹_t],   h²_t = LSTM(x²_t, h²_{t−1})                     eq. 6: the language LSTM
    p(y_{t+1}) = softmax(W_p h²_t + b_p)                                  eq. 7

Attention sees the word that is read, because h¹ does. The regions are those of the encoder's grid, or of a detector
(features made elsewhere). Any cell can replace the LSTMs.

Deliberate differences from the paper: with `grid_dim`, v_i and v̄ are first mapped to ReLU(W v + b) of that size, as in
the well-known code. Dropout on the words, the mapped image and h².
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from captioner.config.attention_models import UpDownConfig
from captioner.errors import ConfigError
from captioner.nn.cells import Hidden
from captioner.nn.decoders.decoder import Decoder
from captioner.nn.layers.attention import (
    Keys,
    attention_weights,
    build_attention,
    context,
    without_padding,
)
from captioner.nn.layers.dropout import Dropout
from captioner.nn.layers.embedding import word_embedding
from captioner.nn.layers.group_by_image import rows_of_captions
from captioner.nn.layers.linear import Linear
from captioner.nn.layers.output import WordOutput
from captioner.nn.layers.stack import RecurrentStack
from captioner.nn.layers.step_contexts import StepContexts
from captioner.nn.layers.step_linear import StepLinear, deferred_weight_gradients
from captioner.nn.packing import PackedCaptions
from captioner.nn.types import DecoderOutput, DecoderState, DecoderStep, ImageFeatures, rows_of_images


class _ImageParts(NamedTuple):
    """gates: (B, C), the term of v̄ in x¹; grid: (B, P, D); keys: (B, P, A); mask: (B, P), of the features."""

    gates: Tensor
    grid: Tensor
    keys: Keys
    mask: Tensor | None


class _RowParts(NamedTuple):
    """The recurrent states of the two LSTMs."""

    attention: Hidden
    language: Hidden


class UpDownDecoder(Decoder[DecoderState[_ImageParts, _RowParts]]):
    """The attention LSTM reads the word, attention follows, the language LSTM predicts."""

    needs_grid = True
    attends = True
    returns_output = True

    def __init__(self, config: UpDownConfig, vocabulary_size: int, feature_dim: int) -> None:
        super().__init__()
        hidden_dim, vector_dim = config.hidden_dim, config.vector_dim or feature_dim
        self.vector_dim = vector_dim
        self.embedding = word_embedding(vocabulary_size, config.embedding_dim, tied=config.tie_embeddings)  # W_e
        self.word_relu = config.word_activation == "relu"
        self.grid = Linear(feature_dim, config.grid_dim) if config.grid_dim else None
        self.vector = nn.Linear(vector_dim, config.grid_dim) if config.grid_dim else None
        grid_dim, image_dim = config.grid_dim or feature_dim, config.grid_dim or vector_dim
        self.attention_lstm = RecurrentStack(config.cell, config.embedding_dim, hidden_dim, 1, config.dropout)
        self.language_lstm = RecurrentStack(
            config.cell, hidden_dim, hidden_dim, config.layers, config.dropout, residual=config.residual
        )
        columns = self.attention_lstm.input_columns
        self.image_to_gates = nn.Linear(image_dim, columns, bias=False)
        self.language_to_gates = StepLinear(hidden_dim, columns, bias=False)
        self.context_to_gates = StepLinear(grid_dim, columns, bias=False)
        self.attention = build_attention("additive", grid_dim, hidden_dim, config.attention_dim)
        self.output = WordOutput(hidden_dim, self.embedding, config.dropout, config.tie_embeddings)  # W_p
        self.dropout = Dropout(config.dropout)
        for linear in (self.image_to_gates, self.language_to_gates, self.context_to_gates):
            nn.init.xavier_uniform_(linear.weight)

    def forward(self, features: ImageFeatures, captions: PackedCaptions) -> DecoderOutput:
        """Teacher-forced logits (M, V), and α (M, P)."""
        image = self._encode_image(features)
        rows_by_image = rows_of_captions(captions, len(image.grid))
        image_of_token = captions.images.index_select(0, captions.rows)
        words = self.attention_lstm.project(self._embed(captions.inputs))  # (M, C)
        inputs = words + image.gates.index_select(0, image_of_token)
        state = self._zero(inputs[: captions.batch_sizes[0]])
        contexts_of_rows = StepContexts(image.grid)
        energies_of_rows = self.attention.batch_energies(image.keys)
        tops, attention = [], []
        with deferred_weight_gradients(self):
            for inputs_of_step in torch.split(inputs, list(captions.batch_sizes)):
                active = len(inputs_of_step)
                first, second = (tuple(tensor[:active] for tensor in hidden) for hidden in state)
                rows = rows_by_image.first_rows(active)
                mask = None if image.mask is None else image.mask.index_select(0, rows.images)
                h, first = self._attention_step(inputs_of_step, first, second)
                weights = attention_weights(without_padding(energies_of_rows(self.attention.query(h), rows), mask))
                top, second = self._language_step(h, contexts_of_rows(weights, rows), second)
                state = _RowParts(first, second)
                tops.append(top)
                attention.append(weights)
        return DecoderOutput(self.output(torch.cat(tops)), torch.cat(attention))

    def init_state(self, features: ImageFeatures) -> DecoderState[_ImageParts, _RowParts]:
        """One row per image; both states are zero."""
        image = self._encode_image(features)
        image = image._replace(keys=self.attention.search_keys(image.keys))
        return DecoderState(image, self._zero(image.gates))

    def step(self, tokens: Int[Tensor, " N"], state: DecoderState[_ImageParts, _RowParts]) -> DecoderStep:
        """Read one token per row, attend, and predict the next token."""
        image, rows = state.image, state.rows
        inputs = self.attention_lstm.project(self._embed(tokens)) + rows_of_images(image.gates, tokens.shape[0])
        h, first = self._attention_step(inputs, rows.attention, rows.language)
        mask = None if image.mask is None else rows_of_images(image.mask, tokens.shape[0])
        energies = self.attention.energies(image.keys, self.attention.query(h))
        weights = attention_weights(without_padding(energies, mask))
        top, second = self._language_step(h, context(weights, image.grid), rows.language)
        return DecoderStep(self.output(top), DecoderState(image, _RowParts(first, second)), weights)

    def _attention_step(
        self, inputs: Float[Tensor, "N C"], hidden: Hidden, language: Hidden
    ) -> tuple[Float[Tensor, "N H"], Hidden]:
        """h¹, eq. 1; `inputs`: the terms of the word and of v̄."""
        previous = language[-self.language_lstm.states]
        return self.attention_lstm.step(inputs + self.language_to_gates(previous), hidden)

    def _language_step(
        self, h: Float[Tensor, "N H"], attended: Float[Tensor, "N D"], hidden: Hidden
    ) -> tuple[Float[Tensor, "N H"], Hidden]:
        """h², eq. 6."""
        return self.language_lstm.step(self.language_lstm.project(h) + self.context_to_gates(attended), hidden)

    def _encode_image(self, features: ImageFeatures) -> _ImageParts:
        """What is computed once per image."""
        if features.grid is None:
            raise ValueError("Up-Down needs the encoder's grid")
        grid, vector = features.grid, features.vector
        if vector.shape[1] != self.vector_dim:
            raise ConfigError(
                f"model.vector_dim={self.vector_dim}: it reads image vectors of this size, and the encoder's have"
                f" {vector.shape[1]}. It needs the features that it was trained on."
            )
        if self.grid is not None and self.vector is not None:
            grid = self.dropout(torch.relu(self.grid(grid)))
            vector = self.dropout(torch.relu(self.vector(vector)))
        return _ImageParts(self.image_to_gates(vector), grid, self.attention.keys(grid), features.mask)

    def _embed(self, tokens: Int[Tensor, " M"]) -> Float[Tensor, "M E"]:
        """W_e y."""
        words = self.embedding(tokens)
        embedded: Tensor = self.dropout(torch.relu(words) if self.word_relu else words)
        return embedded

    def _zero(self, like: Tensor) -> _RowParts:
        """Both states, zero, for as many rows as `like` has."""
        return _RowParts(self.attention_lstm.initial(like), self.language_lstm.initial(like))
