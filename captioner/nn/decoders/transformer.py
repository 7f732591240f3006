"""A transformer as captioner (Vaswani, Shazeer, Parmar, Uszkoreit, Jones, Gomez, Kaiser & Polosukhin 2017).

    regions   a_i → ReLU(W_a a_i + b_a) → encoder_layers × [self-attention, ffn] → memory m
    words     √H · E y_t + p_t → layers × [causal self-attention, cross-attention to m, ffn] → W_o x_t + b_o

    Attention, ffn and the two orders of normalization (norm=pre, norm=post): `captioner.nn.layers.multihead`.
    p_t: sin(t / 10000^(2j/H)), cos(t / 10000^(2j/H)) in dimensions 2j, 2j + 1 (section 3.5), or learned

Regions have no positions. With norm=pre, a last normalization follows each stack (Xiong et al. 2020). The attention
weights that it returns are those of the last layer's cross-attention, the mean over its heads.

Decoding step by step keeps the keys and values of the words that were read, so a step costs the same whatever was read
before, but for the attention to it; those of the memory are computed once per image and shared by its rows.
"""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from captioner.config.attention_models import TransformerConfig
from captioner.errors import ConfigError
from captioner.nn.decoders.decoder import Decoder
from captioner.nn.layers.dropout import Dropout
from captioner.nn.layers.group_by_image import RowsByImage, rows_of_words, words_by_caption
from captioner.nn.layers.linear import Linear
from captioner.nn.layers.multihead import KeysAndValues, MultiHeadAttention, Sublayers, layer_norm
from captioner.nn.layers.output import WordOutput
from captioner.nn.packing import PackedCaptions
from captioner.nn.types import DecoderOutput, DecoderState, DecoderStep, ImageFeatures


class _ImageParts(NamedTuple):
    """keys, values: (B, P, H) of the memory, one per layer; mask: (B, P), of the features."""

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    mask: Tensor | None


class _RowParts(NamedTuple):
    """keys, values: (N, t, H) of the t words that were read, one per layer."""

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]


class EncoderLayer(Sublayers):
    """Self-attention over the regions, and a feed-forward network."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config, 2)

    def forward(self, x: Float[Tensor, "B P H"], mask: Tensor | None) -> Float[Tensor, "B P H"]:
        """`mask`: (B, P), False for padding."""
        y = self.before(x, 0)
        x = self.after(x, self.self_attention(y, self.attended(y, mask)), 0)
        return self.after(x, self.feed_forward(self.before(x, 1)), 1)

    def attended(self, y: Float[Tensor, "B P H"], mask: Tensor | None) -> KeysAndValues:
        """What the regions attend to: each other."""
        return KeysAndValues(*self.self_attention.project(y), mask)


class DecoderLayer(Sublayers):
    """Self-attention over the words so far, attention to the memory, and a feed-forward network."""

    def __init__(self, config: TransformerConfig, has_weights: bool) -> None:
        """`has_weights`: whether it returns the weights of the attention to the memory; the fused product has none."""
        super().__init__(config, 3)
        self.memory_attention = MultiHeadAttention(config.hidden_dim, config.heads, config.dropout)
        self.has_weights = has_weights

    def forward(
        self, x: Float[Tensor, "M H"], by_caption: RowsByImage, by_image: RowsByImage, memory: KeysAndValues
    ) -> tuple[Float[Tensor, "M H"], Float[Tensor, "M P"] | None]:
        """All words of known captions, without padding: x, and the weights; `memory`: of B images."""
        y = self.before(x, 0)
        keys, values = (by_caption.group(part) for part in self.self_attention.project(y))
        x = self.after(x, self.self_attention(y, KeysAndValues(keys, values), by_caption, causal=True), 0)
        return self._after_words(x, memory, by_image)

    def step(
        self, x: Float[Tensor, "N 1 H"], past: KeysAndValues, memory: KeysAndValues
    ) -> tuple[Float[Tensor, "N 1 H"], KeysAndValues, Float[Tensor, "N 1 P"] | None]:
        """One word of each row; `past`: of the words before. Returns x, the words with x, and the weights."""
        y = self.before(x, 0)
        keys, values = self.self_attention.project(y)
        words = KeysAndValues(torch.cat([past.keys, keys], 1), torch.cat([past.values, values], 1))
        x, weights = self._after_words(self.after(x, self.self_attention(y, words), 0), memory, None)
        return x, words, weights

    def _after_words(
        self, x: Float[Tensor, "*N H"], memory: KeysAndValues, rows: RowsByImage | None
    ) -> tuple[Float[Tensor, "*N H"], Float[Tensor, "*N P"] | None]:
        """The second and third sublayer: x, and the weights."""
        attended, weights = self.attend_to_memory(self.before(x, 1), memory, rows)
        x = self.after(x, attended, 1)
        return self.after(x, self.feed_forward(self.before(x, 2)), 2), weights

    def attend_to_memory(
        self, y: Float[Tensor, "*N H"], memory: KeysAndValues, rows: RowsByImage | None
    ) -> tuple[Float[Tensor, "*N H"], Float[Tensor, "*N P"] | None]:
        """The output of the cross-attention, and its weights where it has them; see `MultiHeadAttention`."""
        if self.has_weights:
            attended: tuple[Tensor, Tensor] = self.memory_attention.with_weights(y, memory, rows)
            return attended
        return self.memory_attention(y, memory, rows), None


class TransformerDecoder(Decoder[DecoderState[_ImageParts, _RowParts]]):
    """Encoder layers over the regions, decoder layers over the words."""

    needs_grid = True
    attends = True
    returns_output = True
    parallel_over_steps = True
    encoder_layer: ClassVar[type[EncoderLayer]] = EncoderLayer
    decoder_layer: ClassVar[type[DecoderLayer]] = DecoderLayer

    def __init__(self, config: TransformerConfig, vocabulary_size: int, feature_dim: int) -> None:
        super().__init__()
        hidden_dim, embedding_dim, is_pre = config.hidden_dim, config.embedding_dim, config.norm == "pre"
        self.size = hidden_dim  # H
        self.embedding = nn.Embedding(vocabulary_size, embedding_dim)  # E
        self.widen = nn.Identity() if embedding_dim == hidden_dim else nn.Linear(embedding_dim, hidden_dim, bias=False)
        self.positions = nn.Embedding(config.longest, hidden_dim) if config.positions == "learned" else None
        self.grid = Linear(feature_dim, hidden_dim)  # W_a
        self.encoder = nn.ModuleList(self.encoder_layer(config) for _ in range(config.encoder_layers))
        self.decoder = nn.ModuleList(
            self.decoder_layer(config, layer == config.layers) for layer in range(1, config.layers + 1)
        )
        self.memory_norm = layer_norm(config) if is_pre and config.encoder_layers else nn.Identity()
        self.output_norm = layer_norm(config) if is_pre else nn.Identity()
        self.output = WordOutput(hidden_dim, self.embedding, config.dropout, config.tie_embeddings)  # W_o
        self.dropout = Dropout(config.dropout)
        nn.init.normal_(self.embedding.weight, std=embedding_dim**-0.5)
        if self.positions is not None:
            nn.init.normal_(self.positions.weight, std=0.02)

    def forward(self, features: ImageFeatures, captions: PackedCaptions) -> DecoderOutput:
        """Teacher-forced logits (M, V), and the attention weights (M, P)."""
        memory = self._memory(features)
        by_caption, by_image = words_by_caption(captions), rows_of_words(captions, len(memory))
        places = self._places(0, len(captions.batch_sizes)).index_select(0, captions.steps_of_tokens())
        x, weights = self._embed(captions.inputs, places), None
        for layer in self._layers():
            attended = KeysAndValues(*layer.memory_attention.project(memory), features.mask)
            x, weights = layer(x, by_caption, by_image, attended)
        return DecoderOutput(self.output(self.output_norm(x)), weights)

    def init_state(self, features: ImageFeatures) -> DecoderState[_ImageParts, _RowParts]:
        """One row per image, without words."""
        memory = self._memory(features)
        projected = [layer.memory_attention.project(memory) for layer in self._layers()]
        image = _ImageParts(
            tuple(keys for keys, _ in projected), tuple(values for _, values in projected), features.mask
        )
        nothing = tuple(memory[:, :0] for _ in projected)
        return DecoderState(image, _RowParts(nothing, nothing))

    def step(self, tokens: Int[Tensor, " N"], state: DecoderState[_ImageParts, _RowParts]) -> DecoderStep:
        """Read one token per row, attend to the words before and to the image, and predict the next token."""
        image, rows = state.image, state.rows
        x = self._embed(tokens.unsqueeze(1), self._places(rows.keys[0].shape[1], 1))  # (N, 1, H)
        weights, seen = None, []
        for layer, keys, values, *past in zip(self._layers(), image.keys, image.values, *rows, strict=True):
            x, words, weights = layer.step(x, KeysAndValues(*past), KeysAndValues(keys, values, image.mask))
            seen.append(words)
        logits = self.output(self.output_norm(x).squeeze(1))
        after = _RowParts(tuple(words.keys for words in seen), tuple(words.values for words in seen))
        return DecoderStep(logits, DecoderState(image, after), None if weights is None else weights.squeeze(1))

    def _layers(self) -> list[DecoderLayer]:
        return cast("list[DecoderLayer]", list(self.decoder))

    def _memory(self, features: ImageFeatures) -> Float[Tensor, "B P H"]:
        """m: the regions after the encoder layers."""
        memory = self._regions(features)
        for layer in self.encoder:
            memory = layer(memory, features.mask)
        normalized: Tensor = self.memory_norm(memory)
        return normalized

    def _regions(self, features: ImageFeatures) -> Float[Tensor, "B P H"]:
        """ReLU(W_a a + b_a)."""
        if features.grid is None:
            raise ValueError(f"{type(self).__name__} needs the encoder's grid")
        regions: Tensor = self.dropout(torch.relu(self.grid(features.grid)))
        return regions

    def _embed(self, tokens: Int[Tensor, "*N"], places: Float[Tensor, "M H"]) -> Float[Tensor, "*N H"]:
        """√H · E y + p."""
        words = self.widen(self.embedding(tokens))
        embedded: Tensor = self.dropout(words * math.sqrt(words.shape[-1]) + places)
        return embedded

    def _places(self, first: int, count: int) -> Float[Tensor, "T H"]:
        """p of the positions first … first + count − 1."""
        if self.positions is not None:
            return self._learned_positions(first, count)
        return sinusoids(first, count, self.size).to(self.output.words.weight)

    def _learned_positions(self, first: int, count: int) -> Float[Tensor, "T H"]:
        """p of `count` positions. ConfigError beyond the longest caption that the model has positions for."""
        table = self.positions
        assert table is not None
        if first + count > len(table.weight):
            raise ConfigError(
                f"The model has learned the positions of {len(table.weight)} words (model.longest, with <START>), and "
                "a caption became longer: set decode.max_length and trainer.max_caption_length below that, or train "
                "with model.positions=sinusoidal."
            )
        return table.weight[first : first + count]


def sinusoids(first: int, count: int, size: int) -> Float[Tensor, "T H"]:
    """p of the positions first … first + count − 1 (section 3.5), in float64."""
    position = torch.arange(first, first + count, dtype=torch.float64).unsqueeze(1)
    angles = position * torch.exp(torch.arange(0, size, 2, dtype=torch.float64) * (-math.log(10000.0) / size))
    return torch.stack([torch.sin(angles), torch.cos(angles)], dim=2).flatten(1)[:, :size]
