"""The settings of the decoders since 2016 that attend: semantic attention, att2in, Up-Down, AoA, the
transformer and M²."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from captioner.config.checks import at_least, check_choices, within
from captioner.config.model import DEEPEST, WIDEST, ModelConfig
from captioner.errors import ConfigError

WORD_ACTIVATIONS = ("none", "relu")


@dataclass
class Att2inConfig(ModelConfig):
    """Attention into the candidate of a maxout LSTM (Rennie et al. 2017, Att2in)."""

    decoder: ClassVar[str] = "captioner.nn.decoders.att2in:Att2inDecoder"

    choices: ClassVar[dict[str, Iterable[str]]] = {"cell": ("lstm_maxout",), "word_activation": WORD_ACTIVATIONS}

    name: str = "att2in"
    cell: str = "lstm_maxout"  # the RNN cell; the context enters the candidate of this one only
    attention_dim: int = 512  # A, size of the attention's hidden layer
    grid_dim: int | None = 512  # map each region to this size first (a ReLU layer); null: as they are
    word_activation: str = "none"  # after the word embedding: none, or relu as in ImageCaptioning.pytorch

    @property
    def attends(self) -> bool:
        return True

    def __post_init__(self) -> None:
        super().__post_init__()
        within("model.attention_dim", self.attention_dim, 1, WIDEST)
        within("model.grid_dim", self.grid_dim, 1, WIDEST)


@dataclass
class UpDownConfig(ModelConfig):
    """Up-Down: an attention LSTM and a language LSTM (Anderson et al. 2018)."""

    decoder: ClassVar[str] = "captioner.nn.decoders.updown:UpDownDecoder"

    choices: ClassVar[dict[str, Iterable[str]]] = {**ModelConfig.choices, "word_activation": WORD_ACTIVATIONS}

    name: str = "updown"
    layers: int = 1  # RNN layers of the language LSTM; the attention LSTM has one
    attention_dim: int = 512  # A, size of the attention's hidden layer
    grid_dim: int | None = None  # map each region, and v, to this size first (ReLU layers); null: as they are
    vector_dim: int | None = None  # size of v, for features made elsewhere; null: that of a region
    word_activation: str = "none"  # after the word embedding: none, or relu as in ImageCaptioning.pytorch

    @property
    def attends(self) -> bool:
        return True

    def __post_init__(self) -> None:
        super().__post_init__()
        within("model.attention_dim", self.attention_dim, 1, WIDEST)
        within("model.grid_dim", self.grid_dim, 1, WIDEST)
        within("model.vector_dim", self.vector_dim, 1, WIDEST)


@dataclass
class TransformerConfig(ModelConfig):
    """A transformer (Vaswani et al. 2017): self-attention over the regions, and a decoder with cross-attention."""

    decoder: ClassVar[str] = "captioner.nn.decoders.transformer:TransformerDecoder"

    choices: ClassVar[dict[str, Iterable[str]]] = {
        "cell": ("none",),
        "norm": ("pre", "post"),
        "layer_norm": ("standard", "unbiased"),
        "positions": ("sinusoidal", "learned"),
    }

    name: str = "transformer"
    cell: str = "none"  # it has no RNN cell
    layers: int = 3  # decoder layers
    encoder_layers: int = 3  # layers of self-attention over the regions; 0: none
    embedding_dim: int = 512  # E, size of the word embeddings; a linear map follows where it is not H
    hidden_dim: int = 512  # H, size of every layer's output (d_model)
    heads: int = 8  # attention heads, each of H / heads dimensions
    feed_forward_dim: int = 2048  # size of the feed-forward networks' hidden layer
    dropout: float = 0.1  # on embeddings, attention weights, hidden layers, and before each residual connection
    norm: str = "pre"  # layer normalization before each sublayer (pre), or after its residual connection (post)
    layer_norm: str = (
        "standard"  # √(s² + 10⁻⁵) with the biased s (standard), or s + 10⁻⁶ with the unbiased one (unbiased)
    )
    positions: str = "sinusoidal"  # of words: sinusoidal, or learned
    longest: int = 128  # learned positions: words of the longest caption, <START> counted

    @property
    def attends(self) -> bool:
        return True

    def __post_init__(self) -> None:
        check_choices("model", self)
        if self.residual:
            raise ConfigError("model.residual=true has no effect: a transformer always has residual connections.")
        super().__post_init__()
        within("model.encoder_layers", self.encoder_layers, 0, DEEPEST)
        within("model.feed_forward_dim", self.feed_forward_dim, 1, WIDEST)
        _check_heads(self.hidden_dim, self.heads)
        within("model.longest", self.longest, 2, WIDEST)


@dataclass
class M2Config(TransformerConfig):
    """The meshed-memory transformer (Cornia et al. 2020)."""

    decoder: ClassVar[str] = "captioner.nn.decoders.m2:M2Decoder"

    name: str = "m2"
    encoder_layers: int = 3  # layers of self-attention over the regions; every decoder layer reads the output of each
    norm: str = "post"  # layer normalization before each sublayer (pre), or after its residual connection (post)
    memory_slots: int = 40  # keys and values that each encoder layer learns beside those of the regions; 0: none

    def __post_init__(self) -> None:
        super().__post_init__()
        within("model.encoder_layers", self.encoder_layers, 1, DEEPEST)
        within("model.memory_slots", self.memory_slots, 0, WIDEST)


@dataclass
class AoAConfig(ModelConfig):
    """Attention on attention (Huang et al. 2019)."""

    decoder: ClassVar[str] = "captioner.nn.decoders.aoa:AoADecoder"

    name: str = "aoa"
    hidden_dim: int = 512  # H, size of the regions after the first map, of the hidden state and of the context
    heads: int = 8  # attention heads, each of H / heads dimensions
    encoder_layers: int = 6  # layers that refine the regions by self-attention; 0: none
    dropout: float = 0.3  # on embeddings, regions, what AoA reads, attention weights and before the output layer

    @property
    def attends(self) -> bool:
        return True

    def __post_init__(self) -> None:
        super().__post_init__()
        within("model.encoder_layers", self.encoder_layers, 0, DEEPEST)
        _check_heads(self.hidden_dim, self.heads)


@dataclass
class SemanticAttentionConfig(ModelConfig):
    """Semantic attention: attention over words for what the image shows (You et al. 2016)."""

    decoder: ClassVar[str] = "captioner.nn.decoders.semantic_attention:SemanticAttentionDecoder"

    name: str = "semantic_attention"
    tie_embeddings: bool = True  # the output layer shares the weight of the word embedding, as in the paper
    attributes: int = 10  # K, words of the encoder's classes that are attended to, the most probable of an image
    attribute_prior: float = 1.0  # γ, exponent of an attribute's probability in its attention weight; 0: the paper's
    attribute_sparsity: float = 0.01  # λ, weight of the regularizer of both attentions; 0: none

    def __post_init__(self) -> None:
        super().__post_init__()
        within("model.attributes", self.attributes, 1, 1000)
        within("model.attribute_prior", self.attribute_prior, 0.0, 10.0)
        at_least("model.attribute_sparsity", self.attribute_sparsity, 0.0)


def _check_heads(hidden_dim: int, heads: int) -> None:
    """ConfigError where `hidden_dim` dimensions cannot be divided among `heads`."""
    within("model.heads", heads, 1, hidden_dim)
    if hidden_dim % heads:
        raise ConfigError(
            f"model.hidden_dim={hidden_dim} cannot be divided by model.heads={heads}: each head has the "
            "same number of dimensions."
        )
