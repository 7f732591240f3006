"""From a caption to tokens and back, by name: one small object that training, decoding and the metrics share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from captioner.config import TokenizerConfig
from captioner.text.java_ptb import JAR_VERSION, find_jar, find_java, java_ptb_tokenize_all
from captioner.text.ptb import ptb_tokenize


@dataclass(frozen=True)
class Tokenizer:
    """How captions become tokens. Two tokenizers of the same `name` and `version` give the same tokens.

    `version` belongs in a metric's signature and in a checkpoint; it changes whenever the tokens of some text change.
    """

    name: str
    version: str
    tokenize_all: Callable[[Sequence[str]], list[list[str]]]
    separator: str = " "

    def tokenize(self, caption: str) -> list[str]:
        """The tokens of one caption. For many captions `tokenize_all` is faster."""
        return self.tokenize_all([caption])[0]

    def join(self, tokens: Sequence[str]) -> str:
        """Tokens as text that a person can read."""
        return self.separator.join(tokens)


def _ptb(captions: Sequence[str]) -> list[list[str]]:
    return [ptb_tokenize(caption) for caption in captions]


def _whitespace(captions: Sequence[str]) -> list[list[str]]:
    return [caption.split() for caption in captions]


def _char(captions: Sequence[str]) -> list[list[str]]:
    return [list(" ".join(caption.split())) for caption in captions]


def build_tokenizer(config: TokenizerConfig) -> Tokenizer:
    """The tokenizer that the settings name.

    `backend=java` looks for the jar and the Java runtime at once, and raises a CaptionerError that says
    what to install where one is missing.
    """
    if config.backend == "java":
        find_jar()
        find_java()
        return Tokenizer("ptb", f"corenlp-{JAR_VERSION}", java_ptb_tokenize_all)
    if config.name == "ptb":
        return Tokenizer("ptb", "1", _ptb)
    if config.name == "whitespace":
        return Tokenizer("whitespace", "1", _whitespace)
    return Tokenizer("char", "1", _char, separator="")
