"""The decoder of the lecture: a recurrent network over words that an image enters.

    h = tanh(Wxh·x + Whh·h + Wih·v)         (CS231n 2016, lecture 10)

is the vanilla cell with the image at every step; `injection` lists the other ways in, `cells` the other cells. With
them it is also NeuralTalk (Karpathy & Fei-Fei 2015), Show and Tell (Vinyals et al. 2015) and LRCN (Donahue et al.
2015): see their files in conf/model/.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from captioner.config import RecurrentConfig
from captioner.nn.layers.injection import ImageInjection
from captioner.nn.layers.output import WordOutput
from captioner.nn.layers.stack import RecurrentStack
from captioner.nn.packing import PackedCaptions
from captioner.nn.types import DecoderOutput, DecoderState, DecoderStep, ImageFeatures, rows_of_images


class RecurrentDecoder(nn.Module):
    """Word embedding x and image vector v → gates → h, one layer or more → the next word."""

    needs_grid = False

    def __init__(self, config: RecurrentConfig, vocabulary_size: int, feature_dim: int) -> None:
        super().__init__()
        embedding_dim, hidden_dim = config.embedding_dim, config.hidden_dim
        self.embedding = nn.Embedding(vocabulary_size, embedding_dim)
        self.stack = RecurrentStack(
            config.cell, embedding_dim, hidden_dim, config.layers, config.dropout, residual=config.residual
        )
        self.image = ImageInjection(config.injection, feature_dim, embedding_dim, self.stack)
        self.image_layer = config.image_layer - 1
        self.output = WordOutput(self.image.output_dim, self.embedding, config.dropout, config.tie_embeddings)
        self.dropout = nn.Dropout(config.dropout)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)

    def forward(self, features: ImageFeatures, captions: PackedCaptions) -> DecoderOutput:
        """Logits (M, V) of every word of `captions`, given the words before it."""
        words = self.stack.project(self.dropout(self.embedding(captions.inputs)))  # (M, G·H)
        image = self.image(self.dropout(features.vector), self.stack)
        of_words = captions.images.index_select(0, captions.rows)  # each word's image
        enters = None
        if image.per_step is not None:
            enters = image.per_step.index_select(0, of_words)
        elif image.first_step is not None:
            first = image.first_step.index_select(0, captions.images)
            enters = torch.cat([first, first.new_zeros(len(words) - len(first), first.shape[1])])
        hidden = tuple(tensor.index_select(0, captions.images) for tensor in image.hidden)
        words, above = self._enter(words, enters)
        outputs = self.stack.sequence(words, captions.batch_sizes, hidden, above)  # (M, H)
        if image.output_concat is not None:
            outputs = torch.cat([outputs, image.output_concat.index_select(0, of_words)], dim=1)
        return DecoderOutput(self.output(outputs))

    def init_state(self, features: ImageFeatures) -> DecoderState:
        """B images, one row each; the image's part of the gates is computed here, once.

        What enters the first step only is carried with the rows, and is zero after it.
        """
        image = self.image(features.vector, self.stack)
        shared = tuple(tensor for tensor in (image.per_step, image.output_concat) if tensor is not None)
        return DecoderState(shared, image.hidden if image.first_step is None else (*image.hidden, image.first_step))

    def step(self, tokens: Int[Tensor, " N"], state: DecoderState) -> DecoderStep:
        """Read one word a row, say the next."""
        kind, hidden = self.image.kind, state.hidden
        shared = [rows_of_images(tensor, len(tokens)) for tensor in state.image]
        enters = shared[0] if kind == "par" else None
        if kind == "first":
            *carried, enters = hidden
            hidden = tuple(carried)
        inputs, above = self._enter(self.stack.project(self.embedding(tokens)), enters)
        outputs, hidden = self.stack.step(inputs, hidden, above)
        if kind == "merge":
            outputs = torch.cat([outputs, shared[0]], dim=1)
        if kind == "first" and enters is not None:
            hidden = (*hidden, torch.zeros_like(enters))
        return DecoderStep(self.output(outputs), DecoderState(state.image, hidden))

    def _enter(
        self, words: Float[Tensor, "M C"], image: Float[Tensor, "M C"] | None
    ) -> tuple[Float[Tensor, "M C"], dict[int, Tensor]]:
        """The inputs of the first layer, and of the layers above: the image's part goes to `image_layer`."""
        if image is None:
            return words, {}
        return (words + image, {}) if self.image_layer == 0 else (words, {self.image_layer: image})
