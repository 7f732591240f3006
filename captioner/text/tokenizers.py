"""Tokenizers by name: one object that training, decoding and the metrics share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from captioner.config import TOKENIZERS, TokenizerConfig
from captioner.errors import ConfigError
from captioner.text.java_ptb import JAR_VERSION, find_jar, find_java, java_ptb_tokenize_all
from captioner.text.ptb import Piece, ptb_pieces, ptb_tokenize_all, tokens_of_piece


@dataclass(frozen=True)
class Tokenizer:
    """Splits captions into tokens. Two tokenizers with the same `name` and `version` give the same tokens.

    version: part of a metric's signature and of a checkpoint; it changes whenever the tokens of any text change.
    tokenize_all: a list of captions → the tokens of each.
    pieces: a list of captions → their pieces, one after the other, for millions of captions, which repeat most pieces;
    None where there is nothing faster than `tokenize_all`. tokens_of_piece: piece → its tokens; after the last one of a
    caption comes CAPTION_END.
    separator: what `join` puts between tokens. detokenize: tokens → text, where a separator is not enough.
    model: what it has learned from the training captions, stored in the checkpoint; None where nothing is learned.
    """

    name: str
    version: str
    tokenize_all: Callable[[Sequence[str]], list[list[str]]]
    separator: str = " "
    detokenize: Callable[[Sequence[str]], str] | None = None
    model: bytes | None = field(default=None, repr=False)
    pieces: Callable[[Sequence[str]], Sequence[Piece]] | None = None
    tokens_of_piece: Callable[[Piece], tuple[str, ...]] | None = None

    def tokenize(self, caption: str) -> list[str]:
        """The tokens of one caption. The Java backend starts Java for it; for many captions use `tokenize_all`."""
        return self.tokenize_all([caption])[0]

    def join(self, tokens: Sequence[str]) -> str:
        """Tokens as readable text."""
        return self.separator.join(tokens) if self.detokenize is None else self.detokenize(tokens)


@dataclass(frozen=True)
class LearnedTokenizer:
    """A kind of tokenizer that is learned from the training captions, such as byte-pair encoding.

    learn: training captions and settings → the model, as bytes; the same captions give the same bytes.
    load: the model → the tokenizer, whose `model` it is. CheckpointError where the bytes are damaged.
    """

    name: str
    learn: Callable[[Iterable[str], TokenizerConfig], bytes]
    load: Callable[[bytes], Tokenizer]


def is_learned(config: TokenizerConfig) -> bool:
    """Whether this tokenizer is learned from the training captions."""
    return isinstance(TOKENIZERS[config.name], LearnedTokenizer)


def learn_tokenizer(config: TokenizerConfig, captions: Iterable[str]) -> Tokenizer:
    """The tokenizer of these settings for a training: one that is learned is learned from `captions`."""
    kind = TOKENIZERS[config.name]
    return build_tokenizer(config, kind.learn(captions, config) if isinstance(kind, LearnedTokenizer) else None)


def build_tokenizer(config: TokenizerConfig, model: bytes | None = None) -> Tokenizer:
    """The tokenizer of these settings.

    ptb: that of the COCO evaluation (`captioner.text.ptb`); lower case, no punctuation.
    whitespace: for languages that separate words by spaces; case and punctuation are kept.
    char: characters, for languages that do not; a run of white space is one space.
    bpe: subword units, learned from the training captions (`captioner.text.bpe`), for any language.

    model: what the tokenizer has learned, from the checkpoint; ConfigError where it is needed and missing.
    With `backend=java`, CaptionerError where the jar or Java is missing; it says what to install.
    """
    if config.backend == "java":
        find_jar()
        find_java()
        return Tokenizer("ptb", f"corenlp-{JAR_VERSION}", java_ptb_tokenize_all)
    tokenizer: Tokenizer | LearnedTokenizer = TOKENIZERS[config.name]
    if isinstance(tokenizer, Tokenizer):
        return tokenizer
    if model is None:
        raise ConfigError(
            f"tokenizer={config.name} is learned from training captions and stored in the checkpoint, so it cannot be "
            "used without one. To score captions, choose another with metric.tokenizer, such as ptb or char."
        )
    return tokenizer.load(model)


def _whitespace_tokenize_all(captions: Sequence[str]) -> list[list[str]]:
    return [caption.split() for caption in captions]


def _char_tokenize_all(captions: Sequence[str]) -> list[list[str]]:
    return [list(" ".join(caption.split())) for caption in captions]


PTB = Tokenizer("ptb", "1", ptb_tokenize_all, pieces=ptb_pieces, tokens_of_piece=tokens_of_piece)
WHITESPACE = Tokenizer("whitespace", "1", _whitespace_tokenize_all)
CHARACTERS = Tokenizer("char", "1", _char_tokenize_all, separator="")


def tokens_of_text(text: str, tokenizer: Tokenizer) -> tuple[str, ...]:
    """The tokens of a caption that a person gives; ConfigError where it has none."""
    if not isinstance(text, str):
        raise ConfigError(f"{text!r} is no caption: expected a sentence such as 'a dog runs on grass'.")
    tokens = tuple(tokenizer.tokenize(text))
    if not tokens:
        raise ConfigError(f"The caption {text!r} contains no word: expected a sentence such as 'a dog runs on grass'.")
    return tokens
