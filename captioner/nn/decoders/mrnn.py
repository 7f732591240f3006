"""m-RNN: words, recurrence and image meet in one layer (Mao, Xu, Yang, Wang, Huang & Yuille 2015, section 3.2).

For the words y_1 … y_T, where y_1 = <START>, and the image vector v:

    e_t = E y_t                                   embedding layer I
    w_t = W e_t + b                               embedding layer II, as wide as r
    r_t = ReLU(U_r r_{t−1} + w_t)                 eq. 2: w is added without a weight
    m_t = g(V_w w_t + V_r r_t + V_I v)            eq. 3, the multimodal layer
    g(x) = 1.7159 tanh(2x/3)                      eq. 4 (LeCun et al. 1998, section 4.4)
    p(y_{t+1}) = softmax(W_m m_t + b_m)

The recurrence sees words only, so it can be small: v is merged with it in the multimodal layer, and w reaches that
layer directly. Any cell can replace the ReLU; a cell with gates reads w_t through a weight for each gate.

Deliberate differences from the paper: U_r is initialized with the identity (Le, Jaitly & Hinton 2015), which keeps a
ReLU network stable; the widths are settings (in the paper r has 256 units and m has 512); dropout on w, v and m.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from captioner.config import MRNNConfig
from captioner.nn.cells import Hidden
from captioner.nn.decoders.decoder import Decoder
from captioner.nn.layers.dropout import Dropout
from captioner.nn.layers.linear import Linear
from captioner.nn.layers.output import WordOutput
from captioner.nn.layers.stack import RecurrentStack
from captioner.nn.packing import PackedCaptions
from captioner.nn.types import DecoderOutput, DecoderState, DecoderStep, ImageFeatures, rows_of_images


class _ImageParts(NamedTuple):
    """projected: (B, F), V_I v, the image's term of the multimodal layer."""

    projected: Tensor


class _RowParts(NamedTuple):
    """hidden: the recurrent state."""

    hidden: Hidden


class MRNNDecoder(Decoder[DecoderState[_ImageParts, _RowParts]]):
    """Two word embeddings → recurrent layer; w, r and v → multimodal layer → the next word."""

    returns_output = True

    def __init__(self, config: MRNNConfig, vocabulary_size: int, feature_dim: int) -> None:
        super().__init__()
        hidden_dim, multimodal_dim = config.hidden_dim, config.multimodal_dim
        self.embedding = nn.Embedding(vocabulary_size, config.embedding_dim)  # E
        self.second_embedding = Linear(config.embedding_dim, hidden_dim)  # W
        self.stack = RecurrentStack(
            config.cell, hidden_dim, hidden_dim, config.layers, config.dropout, residual=config.residual
        )
        if self.stack.input_columns == hidden_dim:  # a cell without gates reads w without a weight
            self.stack.inputs[0] = nn.Identity()
        self.word = Linear(hidden_dim, multimodal_dim, bias=False)  # V_w
        self.recurrent = Linear(hidden_dim, multimodal_dim, bias=False)  # V_r
        self.image = nn.Linear(feature_dim, multimodal_dim)  # V_I
        self.output = WordOutput(multimodal_dim, self.embedding, config.dropout, config.tie_embeddings)
        self.dropout = Dropout(config.dropout)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        for linear in (self.second_embedding, self.word, self.recurrent, self.image):
            nn.init.xavier_uniform_(linear.weight)
        nn.init.zeros_(self.second_embedding.bias)
        nn.init.zeros_(self.image.bias)

    def forward(self, features: ImageFeatures, captions: PackedCaptions) -> DecoderOutput:
        """Teacher-forced logits (M, V)."""
        words = self.dropout(self.second_embedding(self.embedding(captions.inputs)))  # w, (M, H)
        outputs = self.stack.sequence(self.stack.project(words), captions.batch_sizes)  # r, (M, H)
        image_of_token = captions.images.index_select(0, captions.rows)
        image = self.image(self.dropout(features.vector)).index_select(0, image_of_token)
        return DecoderOutput(self._multimodal_logits(words, outputs, image))

    def init_state(self, features: ImageFeatures) -> DecoderState[_ImageParts, _RowParts]:
        """One row per image; the image's term of the multimodal layer is computed here, once."""
        return DecoderState(_ImageParts(self.image(features.vector)), _RowParts(self.stack.initial(features.vector)))

    def step(self, tokens: Int[Tensor, " N"], state: DecoderState[_ImageParts, _RowParts]) -> DecoderStep:
        """Read one token per row and predict the next one."""
        words = self.second_embedding(self.embedding(tokens))
        outputs, hidden = self.stack.step(self.stack.project(words), state.rows.hidden)
        logits = self._multimodal_logits(words, outputs, rows_of_images(state.image.projected, tokens.shape[0]))
        return DecoderStep(logits, DecoderState(state.image, _RowParts(hidden)))

    def _multimodal_logits(
        self, words: Float[Tensor, "M H"], outputs: Float[Tensor, "M H"], image: Float[Tensor, "M F"]
    ) -> Float[Tensor, "M V"]:
        """The multimodal layer and the output layer, eq. 3; `image`: V_I v."""
        logits: Tensor = self.output(scaled_tanh(self.word(words) + self.recurrent(outputs) + image))
        return logits


def scaled_tanh(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """1.7159 tanh(2x/3), which maps 1 to 1 and −1 to −1."""
    return 1.7159 * torch.tanh(x * (2 / 3))
