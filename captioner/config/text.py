"""How captions become tokens and words."""

from __future__ import annotations

from dataclasses import dataclass

from captioner.config.checks import at_least
from captioner.errors import ConfigError, choose

TOKENIZERS = ("ptb", "whitespace", "char")


@dataclass
class TokenizerConfig:
    """How a caption becomes tokens, for training and for the metrics."""

    name: str = "ptb"  # ptb: as the COCO evaluation does; whitespace: any language; char: characters
    backend: str = "python"  # python: ours; java: pycocoevalcap's, where it is installed (ptb only)

    def __post_init__(self) -> None:
        choose("tokenizer.name", self.name, TOKENIZERS)
        choose("tokenizer.backend", self.backend, ("python", "java"))
        if self.backend == "java" and self.name != "ptb":
            raise ConfigError(f"tokenizer.backend=java tokenizes as ptb only, but tokenizer.name={self.name}.")


@dataclass
class VocabularyConfig:
    """Which words of the training captions the model may say."""

    min_count: int = 5  # words seen less often than this become <UNK>
    max_size: int | None = None  # keep at most this many words (the most frequent), special tokens aside

    def __post_init__(self) -> None:
        at_least("vocabulary.min_count", self.min_count, 1)
        at_least("vocabulary.max_size", self.max_size, 1)
