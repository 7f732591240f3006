"""The decoders, one dataclass each."""

from __future__ import annotations

from dataclasses import dataclass

from captioner.config.checks import at_least, within
from captioner.errors import choose

CELLS = ("rnn", "lstm", "gru")
WIDEST, DEEPEST = 65_536, 64  # more numbers a vector, or layers, than anybody has meant


@dataclass
class ModelConfig:
    """What every decoder has. `name` selects the builder in `captioner.nn.build`."""

    name: str = "recurrent"
    cell: str = "lstm"
    layers: int = 1
    embedding_dim: int = 512
    hidden_dim: int = 512
    dropout: float = 0.5
    tie_embeddings: bool = False  # the output layer's weight is the word embedding's

    def __post_init__(self) -> None:
        choose("model.cell", self.cell, CELLS)
        within("model.dropout", self.dropout, 0.0, 0.95)
        within("model.layers", self.layers, 1, DEEPEST)
        for key in ("embedding_dim", "hidden_dim"):
            within(f"model.{key}", getattr(self, key), 1, WIDEST)


@dataclass
class RecurrentConfig(ModelConfig):
    """v enters every step: h = tanh(Wxh·x + Whh·h + Wih·v), in the LSTM and GRU in every gate."""


@dataclass
class AttentionConfig(ModelConfig):
    """Show, Attend and Tell with soft attention (Xu et al. 2015)."""

    name: str = "attention"
    embedding_dim: int = 300
    tie_embeddings: bool = True
    attention_dim: int = 512
    gate: str = "scalar"  # scalar: the paper's beta; vector: one gate a feature; none
    doubly_stochastic: float = 1.0  # lambda of the regulariser; 0 turns it off

    def __post_init__(self) -> None:
        super().__post_init__()
        choose("model.gate", self.gate, ("scalar", "vector", "none"))
        within("model.attention_dim", self.attention_dim, 1, WIDEST)
        at_least("model.doubly_stochastic", self.doubly_stochastic, 0.0)


@dataclass
class ChenZitnickConfig(ModelConfig):
    """A visual memory of the words that were read, which reconstructs the image (Chen & Zitnick 2015)."""

    name: str = "chen_zitnick"
    cell: str = "rnn"
    visual_dim: int = 512
    reconstruction: float = 1.0  # weight of the reconstruction's loss

    def __post_init__(self) -> None:
        super().__post_init__()
        within("model.visual_dim", self.visual_dim, 1, WIDEST)
        at_least("model.reconstruction", self.reconstruction, 0.0)
