"""A decoder with a visual memory of the words read so far (Chen & Zitnick 2015, "Mind's eye", section 3).

For the words w_1 … w_T, where w_1 = <START>, and the image vector v:

    s_t     = f(W_ws w_t + W_ss s_{t−1} + [W_vs v; 0])        language layer; v reaches half of its units
    u_t     = f(W_wu w_t + W_uu u_{t−1})                      recurrent visual layer; it reads words, but no image
    w_{t+1} ~ softmax(W_sw s_t + W_uw u_t)                    u tells which parts of v the words have covered
    v ≈ ṽ_t = W_uv u_t                                        at every t, so that u keeps a long memory

The same network works in both directions. Given v it writes a caption; given a caption and no image it predicts the
features of the image that the caption describes, which is how images are retrieved (`reconstruct_features`). Therefore
s and u are not connected: if u could see v, it would copy v like an autoencoder instead of reading the words. And v
reaches only half of s, so that the other half is free to model language.

Deliberate differences from the paper:

    f           In the paper the logistic function (the authors found unbounded ReLUs unstable); here any cell, by
                default tanh, which is the logistic function shifted and scaled, so the network can learn the same.
    output      In the paper factored into word classes and words, for speed, and combined with a maximum entropy
                language model; here one softmax.
    loss of ṽ   Relative, ‖ṽ − v‖² / ‖v‖², so that it does not depend on the scale of the encoder's features.
    decoding    In the paper the best of many sampled captions, each of a length sampled beforehand; here any search.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from captioner.config import ChenZitnickConfig
from captioner.nn.cells import Hidden
from captioner.nn.decoders.decoder import Decoder
from captioner.nn.layers.dropout import Dropout
from captioner.nn.layers.output import WordOutput
from captioner.nn.layers.stack import RecurrentStack
from captioner.nn.packing import PackedCaptions
from captioner.nn.types import (
    AuxiliaryLoss,
    DecoderOutput,
    DecoderState,
    DecoderStep,
    ImageFeatures,
    rows_of_images,
)


class _ImageParts(NamedTuple):
    """gates: (B, C), the image's term in the gates of s."""

    gates: Tensor


class _RowParts(NamedTuple):
    """language: the state of s; memory: the state of u."""

    language: Hidden
    memory: Hidden


class ChenZitnickDecoder(Decoder[DecoderState[_ImageParts, _RowParts]]):
    """Words and half a view of the image → s, words alone → u; s and u → the next word, u → v.

    Its own loss, "reconstruction", is ‖ṽ − v‖² / ‖v‖² summed over the tokens. `layers` counts the layers of s; u has
    one layer.
    """

    reconstructs_features = True
    returns_output = True

    def __init__(self, config: ChenZitnickConfig, vocabulary_size: int, feature_dim: int) -> None:
        super().__init__()
        embedding_dim, hidden_dim, visual_dim = config.embedding_dim, config.hidden_dim, config.visual_dim
        self.embedding = nn.Embedding(vocabulary_size, embedding_dim)
        self.stack = RecurrentStack(  # s
            config.cell, embedding_dim, hidden_dim, config.layers, config.dropout, residual=config.residual
        )
        self.memory = RecurrentStack(config.cell, embedding_dim, visual_dim, 1, config.dropout)  # u
        self.gates = self.stack.input_columns // hidden_dim
        self.units_without_image = hidden_dim // 2  # units of s that v does not reach
        self.image = nn.Linear(feature_dim, self.gates * (hidden_dim - self.units_without_image), bias=False)  # W_vs
        self.reconstruct = nn.Linear(visual_dim, feature_dim)  # W_uv
        self.output = WordOutput(hidden_dim + visual_dim, self.embedding, config.dropout, config.tie_embeddings)
        self.reconstruction = config.reconstruction
        self.dropout = Dropout(config.dropout)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        nn.init.xavier_uniform_(self.image.weight)
        nn.init.xavier_uniform_(self.reconstruct.weight)
        nn.init.zeros_(self.reconstruct.bias)

    def forward(self, features: ImageFeatures, captions: PackedCaptions) -> DecoderOutput:
        """Teacher-forced logits (M, V), and the reconstruction loss."""
        embedded = self.dropout(self.embedding(captions.inputs))  # (M, E)
        image_of_token = captions.images.index_select(0, captions.rows)
        image_gates = self._image_gates(self.dropout(features.vector)).index_select(0, image_of_token)
        language = self.stack.sequence(self.stack.project(embedded) + image_gates, captions.batch_sizes)  # (M, H)
        memory = self.memory.sequence(self.memory.project(embedded), captions.batch_sizes)  # (M, U)
        logits = self.output(torch.cat([language, memory], dim=1))
        # Without gradient: otherwise a fine-tuned encoder would learn features that are easy to predict.
        vector = features.vector.detach().index_select(0, image_of_token)
        error = _relative_error(self.reconstruct(memory), vector).sum()
        return DecoderOutput(logits, losses={"reconstruction": AuxiliaryLoss(self.reconstruction * error)})

    def reconstruct_features(self, captions: PackedCaptions) -> Float[Tensor, "N D"]:
        """ṽ after the last word of each row of `captions`: the image vector that the caption describes."""
        inputs = self.memory.project(self.embedding(captions.inputs))
        memory = self.memory.sequence(inputs, captions.batch_sizes)
        vector: Tensor = self.reconstruct(memory.index_select(0, captions.last_token_positions()))
        return vector

    def init_state(self, features: ImageFeatures) -> DecoderState[_ImageParts, _RowParts]:
        """One row per image; the image's term in the gates of s is computed here, once."""
        gates = self._image_gates(features.vector)
        return DecoderState(_ImageParts(gates), _RowParts(self.stack.initial(gates), self.memory.initial(gates)))

    def step(self, tokens: Int[Tensor, " N"], state: DecoderState[_ImageParts, _RowParts]) -> DecoderStep:
        """Read one token per row and predict the next one."""
        embedded = self.embedding(tokens)
        image_gates = rows_of_images(state.image.gates, tokens.shape[0])
        language, language_state = self.stack.step(self.stack.project(embedded) + image_gates, state.rows.language)
        memory, memory_state = self.memory.step(self.memory.project(embedded), state.rows.memory)
        logits = self.output(torch.cat([language, memory], dim=1))
        return DecoderStep(logits, DecoderState(state.image, _RowParts(language_state, memory_state)))

    def _image_gates(self, vector: Float[Tensor, "B D"]) -> Float[Tensor, "B C"]:
        """v's term in the gates of s: zero for the units that v does not reach."""
        gates = self.image(vector).unflatten(1, (self.gates, -1))
        return F.pad(gates, (0, self.units_without_image)).flatten(1)


def _relative_error(predicted: Float[Tensor, "M D"], target: Float[Tensor, "M D"]) -> Float[Tensor, " M"]:
    """‖predicted − target‖² / ‖target‖²: 1 for a prediction of zero."""
    size = target.square().sum(dim=1).clamp_min(1e-6)  # an image's features may all be zero
    return (predicted - target).square().sum(dim=1) / size
