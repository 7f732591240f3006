"""The recurrent decoder of the lecture: a recurrent network over words into which the image is injected.

    h_t = tanh(Wxh·x_t + Whh·h_{t−1} + Wih·v)         (CS231n 2016, lecture 10)

is the vanilla RNN cell with the image vector v at every step; `layers/injection.py` lists the other injections and
`cells` the other cells. With these settings it is also NeuralTalk (Karpathy & Fei-Fei 2015), Show and Tell (Vinyals
et al. 2015) and LRCN (Donahue et al. 2015); see their files in conf/model/.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from captioner.config import RecurrentConfig
from captioner.nn.cells import Hidden
from captioner.nn.decoders.decoder import Decoder
from captioner.nn.layers.dropout import Dropout
from captioner.nn.layers.embedding import word_embedding
from captioner.nn.layers.injection import ImageInjection
from captioner.nn.layers.output import WordOutput
from captioner.nn.layers.stack import RecurrentStack
from captioner.nn.packing import PackedCaptions
from captioner.nn.types import DecoderOutput, DecoderState, DecoderStep, ImageFeatures, map_tensors, rows_of_images


class _ImageParts(NamedTuple):
    """per_step: (B, C), added to the gates at every step (par); output_concat: (B, H), next to each output (merge)."""

    per_step: Tensor | None
    output_concat: Tensor | None


class _RowParts(NamedTuple):
    """hidden: the recurrent state; first_step: (N, C), added to the gates at the next step, zero after the first."""

    hidden: Hidden
    first_step: Tensor | None


class RecurrentDecoder(Decoder[DecoderState[_ImageParts, _RowParts]]):
    """Word embedding x and image vector v → gates → h, in one layer or more → the next word."""

    returns_output = True

    def __init__(self, config: RecurrentConfig, vocabulary_size: int, feature_dim: int) -> None:
        super().__init__()
        embedding_dim, hidden_dim = config.embedding_dim, config.hidden_dim
        self.embedding = word_embedding(vocabulary_size, embedding_dim, tied=config.tie_embeddings)
        self.stack = RecurrentStack(
            config.cell, embedding_dim, hidden_dim, config.layers, config.dropout, residual=config.residual
        )
        self.image = ImageInjection(config.injection, feature_dim, embedding_dim, self.stack, config.image_projection)
        self.image_layer = config.image_layer - 1
        self.output = WordOutput(self.image.output_dim, self.embedding, config.dropout, config.tie_embeddings)
        self.dropout = Dropout(config.dropout)

    def forward(self, features: ImageFeatures, captions: PackedCaptions) -> DecoderOutput:
        """Teacher-forced logits (M, V)."""
        words = self.stack.project(self.dropout(self.embedding(captions.inputs)))  # (M, C)
        image = self.image(self.dropout(features.vector), self.stack)
        image_of_token = captions.images.index_select(0, captions.rows)
        image_gates = None
        if image.per_step is not None:
            image_gates = image.per_step.index_select(0, image_of_token)
        elif image.first_step is not None:
            first = image.first_step.index_select(0, captions.images)
            image_gates = torch.cat([first, first.new_zeros(len(words) - len(first), first.shape[1])])
        hidden = map_tensors(lambda tensor: tensor.index_select(0, captions.images), image.hidden)
        inputs, inputs_above = self._add_image(words, image_gates)
        outputs = self.stack.sequence(inputs, captions.batch_sizes, hidden, inputs_above)  # (M, H)
        if image.output_concat is not None:
            outputs = torch.cat([outputs, image.output_concat.index_select(0, image_of_token)], dim=1)
        return DecoderOutput(self.output(outputs))

    def init_state(self, features: ImageFeatures) -> DecoderState[_ImageParts, _RowParts]:
        """One row per image; what the image contributes is computed here, once."""
        image = self.image(features.vector, self.stack)
        return DecoderState(_ImageParts(image.per_step, image.output_concat), _RowParts(image.hidden, image.first_step))

    def step(self, tokens: Int[Tensor, " N"], state: DecoderState[_ImageParts, _RowParts]) -> DecoderStep:
        """Read one token per row and predict the next one."""
        image, (hidden, image_gates) = state.image, state.rows
        first_step = None if image_gates is None else torch.zeros_like(image_gates)  # from now on
        if image.per_step is not None:
            image_gates = rows_of_images(image.per_step, tokens.shape[0])
        inputs, inputs_above = self._add_image(self.stack.project(self.embedding(tokens)), image_gates)
        outputs, hidden = self.stack.step(inputs, hidden, inputs_above)
        if image.output_concat is not None:
            outputs = torch.cat([outputs, rows_of_images(image.output_concat, tokens.shape[0])], dim=1)
        return DecoderStep(self.output(outputs), DecoderState(image, _RowParts(hidden, first_step)))

    def _add_image(
        self, words: Float[Tensor, "M C"], image_gates: Float[Tensor, "M C"] | None
    ) -> tuple[Float[Tensor, "M C"], dict[int, Tensor]]:
        """The inputs of the first layer, and those of the layers above; the image enters layer `image_layer`."""
        if image_gates is None:
            return words, {}
        return (words + image_gates, {}) if self.image_layer == 0 else (words, {self.image_layer: image_gates})
