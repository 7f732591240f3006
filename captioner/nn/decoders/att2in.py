"""Att2in: attention into the candidate of a maxout LSTM (Rennie, Marcheret, Mroueh, Ross & Goel 2017, section 2).

For the regions a_1 … a_P and the words y_1 … y_T, with v_i = ReLU(W_v a_i + b_v):

    x_t = E y_t
    α_t = softmax over i of w·tanh(W_a v_i + W_h h_{t−1})
    I_t = Σ_i α_ti v_i
    i, f, o = σ(W x_t + U h_{t−1} + b)
    c_t = i ∘ max over k of (W_k x_t + V_k I_t + U_k h_{t−1} + b_k) + f ∘ c_{t−1},   k = 1, 2
    h_t = o ∘ tanh(c_t),   p(y_{t+1}) = softmax(W_o h_t + b_o),   h_0 = c_0 = 0

The image enters the candidate only, not the gates; hence the name. With several layers, I_t enters the first, and h is
the top layer's.

Deliberate differences from the paper: the map of the regions and its ReLU are those of the well-known code; with
`grid_dim=null` there is none. Dropout on x, v and h.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from captioner.config.attention_models import Att2inConfig
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
    """grid: (B, P, D), v; keys: (B, P, A); mask: (B, P), of the features."""

    grid: Tensor
    keys: Keys
    mask: Tensor | None


class _RowParts(NamedTuple):
    """hidden: the recurrent state."""

    hidden: Hidden


class Att2inDecoder(Decoder[DecoderState[_ImageParts, _RowParts]]):
    """Attention over the regions before every word, into the LSTM's candidate."""

    needs_grid = True
    attends = True
    returns_output = True

    def __init__(self, config: Att2inConfig, vocabulary_size: int, feature_dim: int) -> None:
        super().__init__()
        hidden_dim, grid_dim = config.hidden_dim, config.grid_dim or feature_dim
        self.embedding = word_embedding(vocabulary_size, config.embedding_dim, tied=config.tie_embeddings)  # E
        self.word_relu = config.word_activation == "relu"
        self.grid = Linear(feature_dim, grid_dim) if config.grid_dim else None  # W_v
        self.stack = RecurrentStack(
            config.cell, config.embedding_dim, hidden_dim, config.layers, config.dropout, residual=config.residual
        )
        self.attention = build_attention("additive", grid_dim, hidden_dim, config.attention_dim)
        self.context_to_candidate = StepLinear(grid_dim, 2 * hidden_dim, bias=False)  # V
        self.output = WordOutput(hidden_dim, self.embedding, config.dropout, config.tie_embeddings)  # W_o
        self.dropout = Dropout(config.dropout)
        nn.init.xavier_uniform_(self.context_to_candidate.weight)

    def forward(self, features: ImageFeatures, captions: PackedCaptions) -> DecoderOutput:
        """Teacher-forced logits (M, V), and α (M, P)."""
        grid, keys, image_mask = self._encode_image(features)
        words = self.stack.project(self._embed(captions.inputs))  # (M, C), for all words at once
        hidden = self.stack.initial(words[: captions.batch_sizes[0]])
        contexts_of_rows = StepContexts(grid)
        energies_of_rows = self.attention.batch_energies(keys)
        rows_by_image = rows_of_captions(captions, len(grid))
        tops, attention = [], []
        with deferred_weight_gradients(self):
            for words_of_step in torch.split(words, list(captions.batch_sizes)):
                active = len(words_of_step)
                hidden = tuple(tensor[:active] for tensor in hidden)
                rows = rows_by_image.first_rows(active)
                mask = None if image_mask is None else image_mask.index_select(0, rows.images)
                energies = energies_of_rows(self.attention.query(self._top(hidden)), rows)
                weights = attention_weights(without_padding(energies, mask))
                attended = contexts_of_rows(weights, rows)
                top, hidden = self.stack.step(words_of_step + self._context_to_gates(attended), hidden)
                tops.append(top)
                attention.append(weights)
        return DecoderOutput(self.output(torch.cat(tops)), torch.cat(attention))

    def init_state(self, features: ImageFeatures) -> DecoderState[_ImageParts, _RowParts]:
        """One row per image; h and c are zero."""
        image = self._encode_image(features)
        image = image._replace(keys=self.attention.search_keys(image.keys))
        return DecoderState(image, _RowParts(self.stack.initial(image.grid[:, 0])))

    def step(self, tokens: Int[Tensor, " N"], state: DecoderState[_ImageParts, _RowParts]) -> DecoderStep:
        """Attend, read one token per row, and predict the next token."""
        image, hidden = state.image, state.rows.hidden
        mask = None if image.mask is None else rows_of_images(image.mask, tokens.shape[0])
        energies = self.attention.energies(image.keys, self.attention.query(self._top(hidden)))
        weights = attention_weights(without_padding(energies, mask))
        inputs = self.stack.project(self._embed(tokens)) + self._context_to_gates(context(weights, image.grid))
        top, hidden = self.stack.step(inputs, hidden)
        return DecoderStep(self.output(top), DecoderState(image, _RowParts(hidden)), weights)

    def _encode_image(self, features: ImageFeatures) -> _ImageParts:
        """What is computed once per image."""
        if features.grid is None:
            raise ValueError("att2in needs the encoder's grid")
        grid = features.grid if self.grid is None else self.dropout(torch.relu(self.grid(features.grid)))
        return _ImageParts(grid, self.attention.keys(grid), features.mask)

    def _embed(self, tokens: Int[Tensor, " M"]) -> Float[Tensor, "M E"]:
        """x."""
        words = self.embedding(tokens)
        embedded: Tensor = self.dropout(torch.relu(words) if self.word_relu else words)
        return embedded

    def _context_to_gates(self, attended: Float[Tensor, "N D"]) -> Float[Tensor, "N C"]:
        """V I, in the columns of the two candidates, which are the last of the cell's."""
        candidates = self.context_to_candidate(attended)
        return F.pad(candidates, (self.stack.input_columns - candidates.shape[1], 0))

    def _top(self, hidden: Hidden) -> Float[Tensor, "N H"]:
        """h of the top layer."""
        return hidden[-self.stack.states]
