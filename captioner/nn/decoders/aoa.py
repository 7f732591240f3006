"""AoA: attention on attention (Huang, Wang, Chen & Wei 2019).

Attention returns a weighted mean even where no region answers the query. AoA decides from both how much of it is used
(section 3.1), for a query Q and the attended v̂ = heads(Q, m), the results of all heads side by side:

    i = W_q^i Q + W_v^i v̂ + b^i            information
    g = σ(W_q^g Q + W_v^g v̂ + b^g)         attention gate
    AoA(Q, v̂) = g ∘ i

Encoder, section 3.2.1, `encoder_layers` times over the regions A, at first ReLU(W_a a + b_a):

    A ← LayerNorm(A + AoA(W_Q A, heads(W_Q A, A)))

Decoder, section 3.2.2, with ā = mean of A, and c_0 = 0:

    x_t = [W_e y_t; ā + c_{t−1}],   h_t = LSTM(x_t, h_{t−1})
    c_t = AoA(W_Q h_t, heads(W_Q h_t, A))
    p(y_{t+1}) = softmax(W_p c_t + b_p)

Keys and values of A are computed once per image, and shared by its rows. The attention weights that it returns are the
mean over the heads. Any cell can replace the LSTM.

Deliberate difference from the authors' code: normalization follows the residual connection, as in the paper; their code
normalizes before, and once more at the end.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from captioner.config.attention_models import AoAConfig
from captioner.nn.cells import Hidden
from captioner.nn.decoders.decoder import Decoder
from captioner.nn.layers.dropout import Dropout
from captioner.nn.layers.embedding import word_embedding
from captioner.nn.layers.group_by_image import rows_of_captions
from captioner.nn.layers.linear import Linear
from captioner.nn.layers.multihead import Heads, KeysAndValues
from captioner.nn.layers.output import WordOutput
from captioner.nn.layers.stack import RecurrentStack
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
    """mean: ā (B, H); keys, values: (B, P, H) of A; mask: (B, P), of the features."""

    mean: Tensor
    keys: Tensor
    values: Tensor
    mask: Tensor | None


class _RowParts(NamedTuple):
    """context: c (N, H); hidden: the state of the LSTM."""

    context: Tensor
    hidden: Hidden


class AttentionOnAttention(Heads):
    """AoA(Q, v̂), and the heads that v̂ comes from."""

    def __init__(self, size: int, heads: int, dropout: float) -> None:
        super().__init__(size, heads, dropout)
        self.query = StepLinear(size, size)
        self.information, self.gate = (StepLinear(2 * size, size) for _ in range(2))
        self.dropout = Dropout(dropout)
        for linear in (self.query, self.information, self.gate):
            nn.init.xavier_uniform_(linear.weight)

    def forward(self, queries: Float[Tensor, "... H"], attended: Float[Tensor, "... H"]) -> Float[Tensor, "... H"]:
        """g ∘ i of Q = W_Q q + b_Q and v̂."""
        both = self.dropout(torch.cat([queries, attended], -1))
        result: Tensor = torch.sigmoid(self.gate(both)) * self.information(both)
        return result


class _RefiningLayer(nn.Module):
    """LayerNorm(A + AoA(W_Q A, heads(W_Q A, A)))."""

    def __init__(self, config: AoAConfig) -> None:
        super().__init__()
        self.attention = AttentionOnAttention(config.hidden_dim, config.heads, config.dropout)
        self.norm = nn.LayerNorm(config.hidden_dim)

    def forward(self, regions: Float[Tensor, "B P H"], mask: Tensor | None) -> Float[Tensor, "B P H"]:
        """`mask`: (B, P), False for padding."""
        queries = self.attention.query(regions)
        attended = self.attention.attend(queries, KeysAndValues(*self.attention.project(regions), mask))
        refined: Tensor = self.norm(regions + self.attention(queries, attended))
        return refined


class AoADecoder(Decoder[DecoderState[_ImageParts, _RowParts]]):
    """Refined regions, an LSTM, and AoA, from whose result the word is predicted."""

    needs_grid = True
    attends = True
    returns_output = True

    def __init__(self, config: AoAConfig, vocabulary_size: int, feature_dim: int) -> None:
        super().__init__()
        hidden_dim = config.hidden_dim
        self.embedding = word_embedding(vocabulary_size, config.embedding_dim, tied=config.tie_embeddings)  # W_e
        self.grid = Linear(feature_dim, hidden_dim)  # W_a
        self.encoder = nn.ModuleList(_RefiningLayer(config) for _ in range(config.encoder_layers))
        self.lstm = RecurrentStack(
            config.cell, config.embedding_dim, hidden_dim, config.layers, config.dropout, residual=config.residual
        )
        self.context_to_gates = StepLinear(hidden_dim, self.lstm.input_columns, bias=False)
        self.attention = AttentionOnAttention(hidden_dim, config.heads, config.dropout)
        self.output = WordOutput(hidden_dim, self.embedding, config.dropout, config.tie_embeddings)  # W_p
        self.dropout = Dropout(config.dropout)
        nn.init.xavier_uniform_(self.context_to_gates.weight)

    def forward(self, features: ImageFeatures, captions: PackedCaptions) -> DecoderOutput:
        """Teacher-forced logits (M, V), and the attention weights (M, P)."""
        image = self._encode_image(features)
        memory = KeysAndValues(image.keys, image.values, image.mask)
        rows_by_image = rows_of_captions(captions, len(image.mean))
        words = self.lstm.project(self.dropout(self.embedding(captions.inputs)))  # (M, C)
        means = image.mean.index_select(0, captions.images)
        state = self._zero(means)
        contexts, attention = [], []
        with deferred_weight_gradients(self):
            for active, step in captions.steps():
                rows = rows_by_image.first_rows(active)
                hidden = tuple(tensor[:active] for tensor in state.hidden)
                h, hidden = self._recur(words[step], means[:active] + state.context[:active], hidden)
                queries = self.attention.query(h)
                attended, weights = self.attention.attend_with_weights(rows.group(queries), memory)
                context = self.attention(queries, rows.ungroup(attended))
                state = _RowParts(context, hidden)
                contexts.append(context)
                attention.append(rows.ungroup(weights))
        return DecoderOutput(self.output(torch.cat(contexts)), torch.cat(attention))

    def init_state(self, features: ImageFeatures) -> DecoderState[_ImageParts, _RowParts]:
        """One row per image; c and the LSTM's state are zero."""
        image = self._encode_image(features)
        return DecoderState(image, self._zero(image.mean))

    def step(self, tokens: Int[Tensor, " N"], state: DecoderState[_ImageParts, _RowParts]) -> DecoderStep:
        """Read one token per row, attend, and predict the next token."""
        image, rows = state.image, state.rows
        words = self.lstm.project(self.dropout(self.embedding(tokens)))
        h, hidden = self._recur(words, rows_of_images(image.mean, tokens.shape[0]) + rows.context, rows.hidden)
        queries = self.attention.query(h)
        memory = KeysAndValues(image.keys, image.values, image.mask)
        attended, weights = self.attention.attend_with_weights(
            queries.view(image.mean.shape[0], -1, queries.shape[1]), memory
        )
        context = self.attention(queries, attended.flatten(0, 1))
        return DecoderStep(self.output(context), DecoderState(image, _RowParts(context, hidden)), weights.flatten(0, 1))

    def _recur(
        self, words: Float[Tensor, "N C"], context: Float[Tensor, "N H"], hidden: Hidden
    ) -> tuple[Float[Tensor, "N H"], Hidden]:
        """h; `context`: ā + c."""
        return self.lstm.step(words + self.context_to_gates(context), hidden)

    def _encode_image(self, features: ImageFeatures) -> _ImageParts:
        """What is computed once per image."""
        if features.grid is None:
            raise ValueError("AoA needs the encoder's grid")
        regions = self.dropout(torch.relu(self.grid(features.grid)))
        for layer in self.encoder:
            regions = layer(regions, features.mask)
        return _ImageParts(mean_of_regions(regions, features.mask), *self.attention.project(regions), features.mask)

    def _zero(self, like: Float[Tensor, "N H"]) -> _RowParts:
        """c and the state of the LSTM, zero."""
        return _RowParts(torch.zeros_like(like), self.lstm.initial(like))
