"""From a caption to tokens and back, by name: one small object that training, decoding and the metrics share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from captioner.config import TOKENIZERS, TokenizerConfig
from captioner.text.java_ptb import JAR_VERSION, find_jar, find_java, java_ptb_tokenize_all
from captioner.text.ptb import ptb_tokenize


@dataclass(frozen=True)
class Tokenizer:
    """How captions become tokens. Two tokenizers of the same `name` and `version` give the same tokens.

    `version` belongs into a metric's signature and a checkpoint: it changes whenever the tokens of any text change.
    `tokenize_all` takes many captions at once, and gives the tokens of each.
    """

    name: str
    version: str
    tokenize_all: Callable[[Sequence[str]], list[list[str]]]
    separator: str = " "

    def tokenize(self, caption: str) -> list[str]:
        """The tokens of one caption. With the Java backend this starts Java: use `tokenize_all` for many."""
        return self.tokenize_all([caption])[0]

    def join(self, tokens: Sequence[str]) -> str:
        """Tokens as text that a person can read."""
        return self.separator.join(tokens)


def build_tokenizer(config: TokenizerConfig) -> Tokenizer:
    """The tokenizer that the settings name.

    ptb: what the COCO evaluation uses (`captioner.text.ptb`); lower case, no punctuation.
    whitespace: any language that parts words by space; case and punctuation stay.
    char: characters, for languages that do not; runs of white space are one space.

    `backend=java` raises a CaptionerError that says what to install where the jar or Java is missing.
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
