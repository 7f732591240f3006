"""The settings of the decoders, one dataclass each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from captioner.config.cells import CELLS
from captioner.config.checks import at_least, check_choices, within
from captioner.errors import ConfigError
from captioner.registry import Registry

INJECTIONS = ("init", "pre", "par", "first", "merge")
IMAGE_PROJECTIONS = ("linear", "affine", "batch_norm")
ATTENTIONS = ("none", "soft", "hard", "adaptive")
HARD_AT_TEST = ("expected", "sample")
WIDEST, DEEPEST = 65_536, 64  # bounds on dimensions and layers: larger values are typing errors


@dataclass
class ModelConfig:
    """The settings that every decoder has; those of one decoder derive from it. `name` is its name in `DECODERS`.

    decoder: "module:class" of a `captioner.nn.decoders.decoder.Decoder`, called with (settings, vocabulary size,
    feature dimension). It is imported when a model is built, so that settings can be read without PyTorch.

    attends and samples_attention say what these settings will build, before it is built: whether the decoder has
    attention weights over the regions of the image, and whether it samples where to attend, which excludes
    self-critical training.
    """

    decoder: ClassVar[str] = ""

    choices: ClassVar[dict[str, Iterable[str]]] = {"cell": CELLS}

    name: str = "recurrent"  # the decoder; model=… sets it
    cell: str = "lstm"  # the RNN cell: rnn, lstm, gru and their variants (the files in conf/cell/)
    layers: int = 1  # RNN layers
    embedding_dim: int = 512  # E, size of the word embeddings
    hidden_dim: int = 512  # H, size of the hidden state
    dropout: float = 0.5  # on embeddings, between layers and before the output layer
    tie_embeddings: bool = False  # the output layer shares the weight of the word embedding
    residual: bool = False  # from the second layer on, a layer's output is its h plus its input

    @property
    def attends(self) -> bool:
        return False

    @property
    def samples_attention(self) -> bool:
        return False

    @property
    def has_batch_statistics(self) -> bool:
        """Whether the decoder normalizes by statistics of the batch, which several processes would not share."""
        return False

    def __post_init__(self) -> None:
        check_choices("model", self)
        within("model.dropout", self.dropout, 0.0, 0.95)
        within("model.layers", self.layers, 1, DEEPEST)
        for key in ("embedding_dim", "hidden_dim"):
            within(f"model.{key}", getattr(self, key), 1, WIDEST)
        if self.residual and self.layers == 1:
            raise ConfigError(
                "model.residual=true needs model.layers=2 or more: the first layer has no residual connection."
            )


@dataclass
class RecurrentConfig(ModelConfig):
    """A recurrent network with one of five ways to inject the image vector (Tanti, Gatt & Camilleri 2018; CS231n)."""

    decoder: ClassVar[str] = "captioner.nn.decoders.recurrent:RecurrentDecoder"

    choices: ClassVar[dict[str, Iterable[str]]] = {
        **ModelConfig.choices,
        "injection": INJECTIONS,
        "image_projection": IMAGE_PROJECTIONS,
    }

    injection: str = "par"  # where the image feature v enters: init, pre, par, first or merge (see conf/injection/)
    image_layer: int = 1  # the layer whose gates v enters, with injection par and first
    image_projection: str = (
        "linear"  # pre, par, first: W·v (linear), W·v + b (affine), or batch normalized (batch_norm)
    )

    @property
    def has_batch_statistics(self) -> bool:
        return self.image_projection == "batch_norm"

    def __post_init__(self) -> None:
        super().__post_init__()
        within("model.image_layer", self.image_layer, 1, self.layers)
        if self.image_layer > 1 and self.injection not in ("par", "first"):
            raise ConfigError(
                f"model.image_layer={self.image_layer} needs model.injection=par or first: with "
                f"{self.injection} the image does not enter the gates of a layer."
            )
        if self.image_projection != "linear" and self.injection in ("init", "merge"):
            raise ConfigError(
                f"model.image_projection={self.image_projection} needs model.injection=pre, par or first: with "
                f"{self.injection} it is always tanh(W·v + b)."
            )


@dataclass
class AttentionConfig(ModelConfig):
    """A decoder that attends: Show, Attend and Tell (Xu et al. 2015), or adaptive attention (Lu et al. 2017)."""

    decoder: ClassVar[str] = "captioner.nn.decoders.build_decoder:attention_decoder"

    choices: ClassVar[dict[str, Iterable[str]]] = {
        **ModelConfig.choices,
        "attention": ATTENTIONS,
        "score": ("additive", "additive_relu", "dot"),
        "initial_state": ("tanh", "linear"),
        "output": ("deep", "hidden"),
        "gate": ("scalar", "vector", "none"),
        "hard_at_test": HARD_AT_TEST,
    }

    name: str = "attention"
    embedding_dim: int = 300
    tie_embeddings: bool = True
    attention: str = "soft"  # none (mean of the grid), soft, hard or adaptive; attention=… sets what goes with each
    score: str = "additive"  # additive, w·tanh(Wa·a + Wh·h); additive_relu, with ReLU; or dot (scaled dot product)
    attention_dim: int = 512  # A, size of the attention's hidden layer
    grid_dim: int | None = None  # soft, hard: map each region to this size first (a ReLU layer); null: as they are
    gate: str = "scalar"  # β on the context vector: scalar (the paper's), vector (one per feature channel) or none
    initial_state: str = "tanh"  # h_0 (and c_0) from the mean of the regions: tanh(f_init) or f_init itself (linear)
    output: str = "deep"  # what predicts a word: the word before, h and the context (deep), or h alone (hidden)
    doubly_stochastic: float = 1.0  # λ, weight of the doubly stochastic regularization; 0: none
    hard_at_test: str = "expected"  # hard: use the expected context (expected) or sample a location (sample)
    hard_expected_share: float = 0.5  # hard: fraction of the images trained with the expected context
    hard_reinforce: float = 1.0  # hard: weight of the REINFORCE term
    hard_entropy: float = 0.002  # hard: weight of the entropy of the attention, in nats per word

    @property
    def attends(self) -> bool:
        return True

    @property
    def samples_attention(self) -> bool:
        return self.attention == "hard"

    def __post_init__(self) -> None:
        super().__post_init__()
        within("model.attention_dim", self.attention_dim, 1, WIDEST)
        within("model.grid_dim", self.grid_dim, 1, WIDEST)
        within("model.hard_expected_share", self.hard_expected_share, 0.0, 1.0)
        for key in ("doubly_stochastic", "hard_reinforce", "hard_entropy"):
            at_least(f"model.{key}", getattr(self, key), 0.0)
        if self.attention == "adaptive":
            self._check_adaptive()

    def _check_adaptive(self) -> None:
        if not self.cell.startswith("lstm") and self.cell not in CELLS.additions():
            raise ConfigError(needs_memory(self.cell))
        if self.grid_dim is not None:
            raise ConfigError(
                f"model.attention=adaptive cannot go with model.grid_dim={self.grid_dim}: it already maps each "
                "region to model.hidden_dim dimensions. Leave model.grid_dim null."
            )
        if (self.initial_state, self.output) != ("tanh", "deep"):
            raise ConfigError(
                f"model.attention=adaptive cannot go with model.initial_state={self.initial_state} and model.output="
                f"{self.output}: it starts from zero and predicts from h and the context. Leave both settings out."
            )
        if self.gate != "none":
            raise ConfigError(
                f"model.attention=adaptive cannot go with model.gate={self.gate}: the sentinel already decides how "
                "much of the image is used. Choose attention=adaptive, which sets model.gate=none, or set that too."
            )


def needs_memory(cell: str) -> str:
    """The message for adaptive attention with a cell that has no memory."""
    return (
        f"model.attention=adaptive cannot go with model.cell={cell}: the sentinel reads the cell's memory, and only an "
        "LSTM has one besides its output. Choose model.cell=lstm, or attention=soft."
    )


@dataclass
class ChenZitnickConfig(ModelConfig):
    """A decoder with a visual memory that reconstructs the image's features (Chen & Zitnick 2015)."""

    decoder: ClassVar[str] = "captioner.nn.decoders.chen_zitnick:ChenZitnickDecoder"

    name: str = "chen_zitnick"
    cell: str = "rnn"  # the RNN cell of s and of u; the paper's are vanilla RNNs
    hidden_dim: int = 512  # H, units of the language layer s; the first half of them reads v
    visual_dim: int = 512  # units of the visual memory u
    reconstruction: float = 1.0  # weight of the reconstruction loss ‖ṽ − v‖² / ‖v‖², a mean over the words

    def __post_init__(self) -> None:
        super().__post_init__()
        within("model.visual_dim", self.visual_dim, 1, WIDEST)
        at_least("model.reconstruction", self.reconstruction, 0.0)


@dataclass
class MRNNConfig(ModelConfig):
    """m-RNN: words, recurrence and image meet in a multimodal layer (Mao et al. 2015)."""

    decoder: ClassVar[str] = "captioner.nn.decoders.mrnn:MRNNDecoder"

    name: str = "mrnn"
    cell: str = "rnn_relu"  # the RNN cell; the paper's is rnn_relu, r = ReLU(U_r·r + w)
    embedding_dim: int = 128  # E, size of embedding layer I
    hidden_dim: int = 256  # H, size of embedding layer II and of the recurrent layer r
    multimodal_dim: int = 512  # size of the multimodal layer m

    def __post_init__(self) -> None:
        super().__post_init__()
        within("model.multimodal_dim", self.multimodal_dim, 1, WIDEST)


DECODERS: Registry[type[ModelConfig]] = Registry(
    "model.name",
    "captioner.decoders",
    {
        "recurrent": RecurrentConfig,
        "attention": AttentionConfig,
        "mrnn": MRNNConfig,
        "chen_zitnick": ChenZitnickConfig,
        "semantic_attention": "captioner.config.attention_models:SemanticAttentionConfig",
        "att2in": "captioner.config.attention_models:Att2inConfig",
        "updown": "captioner.config.attention_models:UpDownConfig",
        "aoa": "captioner.config.attention_models:AoAConfig",
        "transformer": "captioner.config.attention_models:TransformerConfig",
        "m2": "captioner.config.attention_models:M2Config",
    },
)
"""Name → the settings dataclass of a decoder, which names the decoder's class."""
