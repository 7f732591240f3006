"""The settings of `task=language_model`: the text, the network, training and sampling."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from captioner.config.checks import at_least, check_choices, within
from captioner.config.model import ModelConfig
from captioner.errors import ConfigError

LEVELS = ("characters", "words")


@dataclass
class TextConfig:
    """The text, its tokens, and which parts of it are held out."""

    choices: ClassVar[dict[str, Iterable[str]]] = {"level": LEVELS}

    text: str | None = None  # a UTF-8 file; null: a text that is generated from `seed`
    level: str = "characters"  # what a token is: characters, or words
    min_count: int = 1  # tokens that occur less often in the training part become <UNK>
    val_fraction: float = 0.05  # share of the text, before the test part, that chooses the best checkpoint
    test_fraction: float = 0.05  # share of the text, at its end, that is evaluated once, after training
    size: int = 300_000  # characters of the generated text
    seed: int = 0  # of the generated text

    def __post_init__(self) -> None:
        check_choices("data", self)
        at_least("data.min_count", self.min_count, 1)
        at_least("data.size", self.size, 1)
        within("data.val_fraction", self.val_fraction, 0.001, 0.4)
        within("data.test_fraction", self.test_fraction, 0.001, 0.4)


@dataclass
class LanguageNetworkConfig(ModelConfig):
    """A recurrent language model: embedding, stacked RNN layers, output layer over the next token."""

    name: str = "language_model"  # language_model
    embedding_dim: int = 64
    hidden_dim: int = 256
    dropout: float = 0.1


@dataclass
class LanguageTrainerConfig:
    """Duration, batches, validation and checkpoints."""

    max_epochs: int = 12  # passes over the training part
    max_steps: int | None = None  # stop after this many optimizer steps, whatever the epoch
    streams: int = 32  # sequences per batch: the text is split into this many streams, read in parallel
    window: int = 64  # tokens of truncated backpropagation; the state is passed on to the next window
    validate_every: int = 200  # steps between validations
    patience: int | None = 5  # stop after this many validations without a lower loss; null: never
    log_every: int = 20  # steps between log lines
    keep_last: int = 1  # checkpoints kept besides the best one
    sample_stages: int = 5  # times that a sample is written to samples.md, the last at the end; 0: never
    baseline_order: int = 5  # highest order of the n-gram baselines, in tokens of context; 0: no baselines
    tensorboard: bool = False  # also write TensorBoard files (pip install 'captioner[tensorboard]')

    def __post_init__(self) -> None:
        for key in ("max_epochs", "max_steps", "streams", "window", "validate_every", "patience"):
            at_least(f"trainer.{key}", getattr(self, key), 1)
        for key in ("log_every", "keep_last"):
            at_least(f"trainer.{key}", getattr(self, key), 1)
        within("trainer.sample_stages", self.sample_stages, 0, 100)
        within("trainer.baseline_order", self.baseline_order, 0, 12)


@dataclass
class SamplingConfig:
    """How text is sampled from the model."""

    prompt: str = ""  # text that the sample continues
    length: int = 500  # tokens to sample
    temperature: float = 1.0  # logits are divided by this
    top_k: int = 0  # only the k most probable tokens; 0: all
    top_p: float = 1.0  # only the fewest most probable tokens with at least this probability; 1: all
    seed: int = 0  # of the sampling

    def __post_init__(self) -> None:
        at_least("sampling.length", self.length, 1)
        at_least("sampling.top_k", self.top_k, 0)
        if not 0 < self.temperature < math.inf:
            raise ConfigError(f"sampling.temperature={self.temperature}: expected more than 0 (0.1 is nearly greedy).")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"sampling.top_p={self.top_p} is out of range: expected more than 0, up to 1.")
