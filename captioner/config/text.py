"""How captions become tokens, and tokens a vocabulary."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from captioner.config.checks import at_least, check_choices
from captioner.errors import ConfigError
from captioner.registry import Registry

TOKENIZERS: Registry[Any] = Registry(
    "tokenizer.name",
    "captioner.tokenizers",
    {
        "ptb": "captioner.text.tokenizers:PTB",
        "whitespace": "captioner.text.tokenizers:WHITESPACE",
        "char": "captioner.text.tokenizers:CHARACTERS",
        "bpe": "captioner.text.bpe:BPE",
    },
)
"""Name → a `captioner.text.tokenizers.Tokenizer`, or a `LearnedTokenizer` of the same module."""


@dataclass
class TokenizerConfig:
    """How a caption is split into tokens, for training and, unless `metric.tokenizer` is set, for the metrics."""

    choices: ClassVar[dict[str, Iterable[str]]] = {"name": TOKENIZERS, "backend": ("python", "java")}

    # ptb: Penn Treebank, as the COCO evaluation; whitespace: any language; char: characters; bpe: learned subwords
    name: str = "ptb"
    backend: str = "python"  # python, or java: pycocoevalcap's program, where it is installed (ptb only)
    subwords: int = 8000  # bpe: subword units to learn at most; few captions have fewer (pip install 'captioner[bpe]')

    def __post_init__(self) -> None:
        check_choices("tokenizer", self)
        if self.backend == "java" and self.name != "ptb":
            raise ConfigError(f"tokenizer.backend=java tokenizes as ptb only, but tokenizer.name={self.name}.")
        at_least("tokenizer.subwords", self.subwords, 1)
        if self.subwords != type(self).subwords and self.name in ("ptb", "whitespace", "char"):
            raise ConfigError(
                f"tokenizer.subwords={self.subwords} has no effect: tokenizer.name={self.name} learns no subword "
                "units. Choose tokenizer=bpe."
            )


@dataclass
class VocabularyConfig:
    """Which words of the training captions are in the vocabulary."""

    min_count: int = 5  # words that occur less often become <UNK>
    max_size: int | None = None  # keep this many of the most frequent words, not counting special tokens; null: all

    def __post_init__(self) -> None:
        at_least("vocabulary.min_count", self.min_count, 1)
        at_least("vocabulary.max_size", self.max_size, 1)
