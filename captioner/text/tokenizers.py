"""Tokenizers by name: one object that training, decoding and the metrics share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from captioner.config import TOKENIZERS, TokenizerConfig
from captioner.text.java_ptb import JAR_VERSION, find_jar, find_java, java_ptb_tokenize_all
from captioner.text.ptb import ptb_tokenize


@dataclass(frozen=True)
class Tokenizer:
    """Splits captions into tokens. Two tokenizers with the same `name` and `version` give the same tokens.

    version: part of a metric's signature and of a checkpoint; it changes whenever the tokens of any text change.
    tokenize_all: a list of captions → the tokens of each.
    separator: what `join` puts between tokens.
    """

    name: str
    version: str
    tokenize_all: Callable[[Sequence[str]], list[list[str]]]
    separator: str = " "

    def tokenize(self, caption: str) -> list[str]:
        """The tokens of one caption. The Java backend starts Java for it; for many captions use `tokenize_all`."""
        return self.tokenize_all([caption])[0]

    def join(self, tokens: Sequence[str]) -> str:
        """Tokens as readable text."""
        return self.separator.join(tokens)


def build_tokenizer(config: TokenizerConfig) -> Tokenizer:
    """The tokenizer of these settings.

    ptb: that of the COCO evaluation (`captioner.text.ptb`); lower case, no punctuation.
    whitespace: for languages that separate words by spaces; case and punctuation are kept.
    char: characters, for languages that do not; a run of white space is one space.

    With `backend=java`, CaptionerError where the jar or Java is missing; it says what to install.
    """
    if config.backend == "java":
        find_jar()
        find_java()
        return Tokenizer("ptb", f"corenlp-{JAR_VERSION}", java_ptb_tokenize_all)
    tokenizer: Tokenizer = TOKENIZERS[config.name]
    return tokenizer


def _ptb_tokenize_all(captions: Sequence[str]) -> list[list[str]]:
    return [ptb_tokenize(caption) for caption in captions]


def _whitespace_tokenize_all(captions: Sequence[str]) -> list[list[str]]:
    return [caption.split() for caption in captions]


def _char_tokenize_all(captions: Sequence[str]) -> list[list[str]]:
    return [list(" ".join(caption.split())) for caption in captions]


PTB = Tokenizer("ptb", "1", _ptb_tokenize_all)
WHITESPACE = Tokenizer("whitespace", "1", _whitespace_tokenize_all)
CHARACTERS = Tokenizer("char", "1", _char_tokenize_all, separator="")
