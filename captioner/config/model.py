"""The decoders, one dataclass each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from captioner.config.checks import at_least, check_choices, within
from captioner.errors import ConfigError
from captioner.registry import Registry

CELLS = (
    "rnn",
    "rnn_relu",
    "lstm",
    "lstm_forget_bias_0",
    "lstm_peephole",
    "lstm_no_input_gate",
    "lstm_no_forget_gate",
    "lstm_no_output_gate",
    "lstm_no_input_activation",
    "lstm_no_output_activation",
    "lstm_coupled_gates",
    "lstm_full_gate_recurrence",
    "gru",
    "mut1",
    "mut2",
    "mut3",
)
INJECTIONS = ("init", "pre", "par", "first", "merge")
ATTENTIONS = ("none", "soft", "hard", "adaptive")
HARD_AT_TEST = ("expected", "sample")
WIDEST, DEEPEST = 65_536, 64  # more numbers a vector, or layers, than anybody has meant


@dataclass
class ModelConfig:
    """Settings that every decoder has. `name` is its name in `DECODERS`.

    decoder: "module:class" of the decoder, called with (settings, vocabulary size, feature dimension). It is imported
    when a model is built, so that settings can be read without PyTorch.
    """

    decoder: ClassVar[str] = ""

    choices: ClassVar[dict[str, Iterable[str]]] = {"cell": CELLS}

    name: str = "recurrent"  # the decoder; model=… sets it
    cell: str = "lstm"  # the RNN cell: rnn, lstm, gru and their variants (the files in conf/cell/)
    layers: int = 1  # RNN layers
    embedding_dim: int = 512  # E, size of the word embeddings
    hidden_dim: int = 512  # H, size of the hidden state
    dropout: float = 0.5  # on embeddings, between layers and before the output layer
    tie_embeddings: bool = False  # the output layer's weight is the word embedding's
    residual: bool = False  # from the second layer on, a layer's output is its h plus what it read

    def __post_init__(self) -> None:
        check_choices("model", self)
        within("model.dropout", self.dropout, 0.0, 0.95)
        within("model.layers", self.layers, 1, DEEPEST)
        for key in ("embedding_dim", "hidden_dim"):
            within(f"model.{key}", getattr(self, key), 1, WIDEST)
        if self.residual and self.layers == 1:
            raise ConfigError(
                "model.residual=true needs model.layers=2 or more: the first layer has nothing to add to."
            )


@dataclass
class RecurrentConfig(ModelConfig):
    """A recurrent network that the image v enters in one of five ways (Tanti, Gatt & Camilleri 2018; CS231n)."""

    decoder: ClassVar[str] = "captioner.nn.decoders.recurrent:RecurrentDecoder"

    choices: ClassVar[dict[str, Iterable[str]]] = {**ModelConfig.choices, "injection": INJECTIONS}

    injection: str = "par"  # where the image feature v enters: init, pre, par, first or merge (see conf/injection/)
    image_layer: int = 1  # the layer whose gates v enters, with injection par and first

    def __post_init__(self) -> None:
        super().__post_init__()
        within("model.image_layer", self.image_layer, 1, self.layers)
        if self.image_layer > 1 and self.injection not in ("par", "first"):
            raise ConfigError(
                f"model.image_layer={self.image_layer} needs model.injection=par or first: with "
                f"{self.injection} the image enters no layer's gates."
            )


@dataclass
class AttentionConfig(ModelConfig):
    """A decoder that looks at the grid: Show, Attend and Tell (Xu et al. 2015), or with adaptive Lu et al. 2017."""

    decoder: ClassVar[str] = "captioner.nn.decoders.registry:attention_decoder"

    choices: ClassVar[dict[str, Iterable[str]]] = {
        **ModelConfig.choices,
        "attention": ATTENTIONS,
        "score": ("additive", "dot"),
        "gate": ("scalar", "vector", "none"),
        "hard_at_test": HARD_AT_TEST,
    }

    name: str = "attention"
    embedding_dim: int = 300
    tie_embeddings: bool = True
    attention: str = "soft"  # none (the grid's mean), soft, hard or adaptive; attention=… sets what goes with each
    score: str = "additive"  # additive, w·tanh(Wa·a + Wh·h), or dot (scaled dot product)
    attention_dim: int = 512  # A, size of the attention's hidden layer
    grid_dim: int | None = None  # soft, hard: make each cell so many numbers first (a ReLU layer); null: as they are
    gate: str = "scalar"  # β on the context vector: scalar (the paper's), vector (one per feature channel) or none
    doubly_stochastic: float = 1.0  # λ, weight of the doubly stochastic regularization; 0: none
    hard_at_test: str = "expected"  # hard: look at the mean of all cells, or at one drawn by lot (sample)
    hard_expected_share: float = 0.5  # hard: share of the images that are learnt from by the mean of all cells
    hard_reinforce: float = 1.0  # hard: weight of what is learnt from which cells were drawn
    hard_entropy: float = 0.002  # hard: weight of the entropy of where to look, in nats a word

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
        if not self.cell.startswith("lstm"):
            raise ConfigError(
                f"model.attention=adaptive cannot go with model.cell={self.cell}: the sentinel is what the cell's "
                "memory holds, and only an LSTM has one besides its output. Choose model.cell=lstm, or attention=soft."
            )
        if self.grid_dim is not None:
            raise ConfigError(
                f"model.attention=adaptive cannot go with model.grid_dim={self.grid_dim}: it makes each cell "
                "model.hidden_dim numbers already. Leave model.grid_dim null."
            )
        if self.gate != "none":
            raise ConfigError(
                f"model.attention=adaptive cannot go with model.gate={self.gate}: the sentinel already decides how "
                "much of the image comes in. Choose attention=adaptive, which sets model.gate=none, or set that too."
            )


@dataclass
class ChenZitnickConfig(ModelConfig):
    """A visual memory of the words that were read, which reconstructs the image (Chen & Zitnick 2015)."""

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
    """Words, recurrence and image meet in a multimodal layer (Mao et al. 2015)."""

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
    },
)
"""Name → the settings of a decoder, which name the decoder."""
