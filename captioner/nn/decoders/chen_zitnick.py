"""A captioner with a visual memory of what was said (Chen & Zitnick 2015, "Mind's eye", section 3).

For the words w_1 … w_T, the first of them <START>, and the image vector v:

    s_t     = f(W_ws w_t + W_ss s_{t−1} + [W_vs v; 0])        language layer; v reaches half of its units only
    u_t     = f(W_wu w_t + W_uu u_{t−1})                      recurrent visual layer: it reads words, and no image
    w_{t+1} ~ softmax(W_sw s_t + W_uw u_t)                    what v says, against what u remembers of being said
    v ≈ ṽ_t = W_uv u_t                                        at every t, so that u remembers over a long time

The words part the network into two halves. With v given the one writes a caption, and without any image the other
turns a sentence into the features of the image it speaks of, by which images are found (`reconstruct_features`). That
is why s
and u are not connected: with v within its reach u would copy it, as an autoencoder does, and not read. And it is why v
reaches only half of s: the other half is free to model language.

Where it differs from the paper, on purpose:

    f           there the logistic function (its authors found unbounded ReLUs unstable); here any cell, by default
                tanh, which is the logistic one shifted and scaled, so that the same functions can be learnt
    output      there factored into classes of words and the words of a class, for speed, and joined by a maximum
                entropy model of the words before; here a plain softmax
    ṽ           the loss is relative, ‖ṽ − v‖² / ‖v‖², and so independent of the encoder's scale
    decoding    there the best of many sampled sentences of a length drawn beforehand; here any search
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from captioner.config import ChenZitnickConfig
from captioner.nn.layers.output import WordOutput
from captioner.nn.layers.stack import RecurrentStack
from captioner.nn.packing import PackedCaptions
from captioner.nn.types import DecoderOutput, DecoderState, DecoderStep, ImageFeatures, rows_of_images


class ChenZitnickDecoder(nn.Module):
    """Words and half a view of the image → s, words alone → u; both together → the next word, u → v.

    Loss besides the words': the relative squared error ‖ṽ − v‖² / ‖v‖², which has the same meaning for every encoder.
    With `layers`, s has so many and u still one.
    """

    needs_grid = False

    def __init__(self, config: ChenZitnickConfig, vocabulary_size: int, feature_dim: int) -> None:
        super().__init__()
        embedding_dim, hidden_dim, visual_dim = config.embedding_dim, config.hidden_dim, config.visual_dim
        self.embedding = nn.Embedding(vocabulary_size, embedding_dim)
        self.stack = RecurrentStack(  # s
            config.cell, embedding_dim, hidden_dim, config.layers, config.dropout, residual=config.residual
        )
        self.memory = RecurrentStack(config.cell, embedding_dim, visual_dim, 1, config.dropout)  # u
        self.gates = self.stack.input_columns // hidden_dim
        self.blind = hidden_dim // 2  # units of s that do not see v
        self.image = nn.Linear(feature_dim, self.gates * (hidden_dim - self.blind), bias=False)  # W_vs
        self.reconstruct = nn.Linear(visual_dim, feature_dim)  # W_uv
        self.output = WordOutput(hidden_dim + visual_dim, self.embedding, config.dropout, config.tie_embeddings)
        self.reconstruction = config.reconstruction
        self.dropout = nn.Dropout(config.dropout)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        nn.init.xavier_uniform_(self.image.weight)
        nn.init.xavier_uniform_(self.reconstruct.weight)
        nn.init.zeros_(self.reconstruct.bias)

    def forward(self, features: ImageFeatures, captions: PackedCaptions) -> DecoderOutput:
        """Logits (M, V) of every word of `captions`, given the words before it, and the loss of ṽ."""
        embedded = self.dropout(self.embedding(captions.inputs))  # (M, E)
        images = captions.images.index_select(0, captions.rows)  # the image of each word
        seen = self._view(self.dropout(features.vector)).index_select(0, images)
        said = self.stack.sequence(self.stack.project(embedded) + seen, captions.batch_sizes)  # (M, H)
        remembered = self.memory.sequence(self.memory.project(embedded), captions.batch_sizes)  # (M, U)
        logits = self.output(torch.cat([said, remembered], dim=1))
        vector = features.vector.detach().index_select(0, images)  # an encoder that learns must not make v easy
        error = _relative_error(self.reconstruct(remembered), vector).sum()
        return DecoderOutput(logits, losses={"reconstruction": self.reconstruction * error})

    def reconstruct_features(self, captions: PackedCaptions) -> Float[Tensor, "N D"]:
        """ṽ of each row of `captions` after its last word: the vector of an image that the caption would fit."""
        inputs = self.memory.project(self.embedding(captions.inputs))
        remembered = self.memory.sequence(inputs, captions.batch_sizes)
        vector: Tensor = self.reconstruct(remembered.index_select(0, captions.last_token_positions()))
        return vector

    def init_state(self, features: ImageFeatures) -> DecoderState:
        """B images, one row each; the image's part of s is computed here, once. Carried: the states of s, then of u."""
        seen = self._view(features.vector)
        return DecoderState((seen,), (*self.stack.initial(seen), *self.memory.initial(seen)))

    def step(self, tokens: Int[Tensor, " N"], state: DecoderState) -> DecoderStep:
        """Read one word a row, say the next."""
        embedded = self.embedding(tokens)
        own = len(state.hidden) - self.memory.states
        seen = rows_of_images(state.image[0], len(tokens))
        said, language = self.stack.step(self.stack.project(embedded) + seen, state.hidden[:own])
        remembered, memory = self.memory.step(self.memory.project(embedded), state.hidden[own:])
        logits = self.output(torch.cat([said, remembered], dim=1))
        return DecoderStep(logits, DecoderState(state.image, (*language, *memory)))

    def _view(self, vector: Float[Tensor, "B D"]) -> Float[Tensor, "B C"]:
        """What v adds to the gates of s: zero for the units that do not see it."""
        seen = self.image(vector).unflatten(1, (self.gates, -1))
        return F.pad(seen, (0, self.blind)).flatten(1)


def _relative_error(guess: Float[Tensor, "M D"], truth: Float[Tensor, "M D"]) -> Float[Tensor, " M"]:
    """‖guess − truth‖² / ‖truth‖²: 1 for a guess of nothing."""
    size = truth.square().sum(dim=1).clamp_min(1e-6)  # there are images of no features at all
    return (guess - truth).square().sum(dim=1) / size
