"""m-RNN: words, recurrence and image meet in one layer (Mao, Xu, Yang, Wang, Huang & Yuille 2015, section 3.2).

For the words y_1 … y_T, the first of them <START>, and the image vector v:

    e_t = E y_t                                   embedding layer I
    w_t = W e_t + b                               embedding layer II, as wide as r
    r_t = ReLU(U_r r_{t−1} + w_t)                 eq. 2: w enters without a weight
    m_t = g(V_w w_t + V_r r_t + V_I v)            eq. 3, the multimodal layer
    g(x) = 1.7159 tanh(2x/3)                      eq. 4 (LeCun et al. 1998, section 4.4)
    p(y_{t+1}) = softmax(W_m m_t + b_m)

So the recurrence remembers words only, and need not be large: v is merged with it afterwards, and w comes to the word
output on a short way. Any cell works in the ReLU's place; one with gates gets w_t through a weight for each of them.

Where it differs from the paper, on purpose: U_r starts as the identity (Le, Jaitly & Hinton 2015), which keeps a ReLU
network from blowing up; widths are settings (there r has 256 units and m 512); dropout on w, v and m.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from captioner.config import MRNNConfig
from captioner.nn.layers.output import WordOutput
from captioner.nn.layers.stack import RecurrentStack
from captioner.nn.packing import PackedCaptions
from captioner.nn.types import DecoderOutput, DecoderState, DecoderStep, ImageFeatures, rows_of_images


class MRNNDecoder(nn.Module):
    """Two word embeddings → recurrent layer; w, r and v → multimodal layer → the next word."""

    needs_grid = False

    def __init__(self, config: MRNNConfig, vocabulary_size: int, feature_dim: int) -> None:
        super().__init__()
        hidden_dim, multimodal_dim = config.hidden_dim, config.multimodal_dim
        self.embedding = nn.Embedding(vocabulary_size, config.embedding_dim)  # E
        self.second_embedding = nn.Linear(config.embedding_dim, hidden_dim)  # W
        self.stack = RecurrentStack(
            config.cell, hidden_dim, hidden_dim, config.layers, config.dropout, residual=config.residual
        )
        if self.stack.input_columns == hidden_dim:  # a cell without gates: w enters as it is
            self.stack.inputs[0] = nn.Identity()
        self.word = nn.Linear(hidden_dim, multimodal_dim, bias=False)  # V_w
        self.recurrent = nn.Linear(hidden_dim, multimodal_dim, bias=False)  # V_r
        self.image = nn.Linear(feature_dim, multimodal_dim)  # V_I
        self.output = WordOutput(multimodal_dim, self.embedding, config.dropout, config.tie_embeddings)
        self.dropout = nn.Dropout(config.dropout)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        for linear in (self.second_embedding, self.word, self.recurrent, self.image):
            nn.init.xavier_uniform_(linear.weight)
        nn.init.zeros_(self.second_embedding.bias)
        nn.init.zeros_(self.image.bias)

    def forward(self, features: ImageFeatures, captions: PackedCaptions) -> DecoderOutput:
        """Logits (M, V) of every word of `captions`, given the words before it."""
        words = self.dropout(self.second_embedding(self.embedding(captions.inputs)))  # w, (M, H)
        outputs = self.stack.sequence(self.stack.project(words), captions.batch_sizes)  # r, (M, H)
        images = captions.images.index_select(0, captions.rows)  # the image of each word
        seen = self.image(self.dropout(features.vector)).index_select(0, images)
        return DecoderOutput(self._say(words, outputs, seen))

    def init_state(self, features: ImageFeatures) -> DecoderState:
        """B images, one row each; the image's part of the multimodal layer is computed here, once."""
        return DecoderState((self.image(features.vector),), self.stack.initial(features.vector))

    def step(self, tokens: Int[Tensor, " N"], state: DecoderState) -> DecoderStep:
        """Read one word a row, say the next."""
        words = self.second_embedding(self.embedding(tokens))
        outputs, hidden = self.stack.step(self.stack.project(words), state.hidden)
        logits = self._say(words, outputs, rows_of_images(state.image[0], len(tokens)))
        return DecoderStep(logits, DecoderState(state.image, hidden))

    def _say(
        self, words: Float[Tensor, "M H"], outputs: Float[Tensor, "M H"], seen: Float[Tensor, "M F"]
    ) -> Float[Tensor, "M V"]:
        """The multimodal layer, and what it says."""
        logits: Tensor = self.output(scaled_tanh(self.word(words) + self.recurrent(outputs) + seen))
        return logits


def scaled_tanh(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """1.7159 tanh(2x/3), which is 1 at 1 and −1 at −1."""
    return 1.7159 * torch.tanh(x * (2 / 3))
