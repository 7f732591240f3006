"""Byte-pair encoding (Sennrich, Haddow & Birch, ACL 2016, arXiv:1508.07909), by SentencePiece (arXiv:1808.06226).

The units are learned from the training captions: frequent words are one unit, rare ones several, and captions in any
language need no spaces between words. Text is not normalized, so joining the units of a caption gives the caption
itself, case and punctuation included; only a run of white space becomes one space.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

from captioner.config import TokenizerConfig
from captioner.errors import CheckpointError, ConfigError, DataError
from captioner.text.tokenizers import LearnedTokenizer, Tokenizer

NAME = "bpe"
LONGEST = 1 << 20  # bytes of a caption


class SubwordModel:
    """A learned SentencePiece model. It can be sent to another process."""

    def __init__(self, model: bytes) -> None:
        self.model = model
        self.processor  # noqa: B018 - a damaged model is an error here, not at the first caption

    @cached_property
    def processor(self) -> Any:
        """The SentencePieceProcessor."""
        try:
            return _sentencepiece().SentencePieceProcessor(model_proto=self.model)
        except RuntimeError as error:
            raise CheckpointError(f"The model of tokenizer={NAME} is damaged: restore it from a copy.") from error

    def __reduce__(self) -> tuple[type[SubwordModel], tuple[bytes]]:
        return SubwordModel, (self.model,)

    def tokenize_all(self, captions: Sequence[str]) -> list[list[str]]:
        """The units of each caption; one that begins a word starts with ▁ (U+2581)."""
        units: list[list[str]] = self.processor.encode([_squeezed(caption) for caption in captions], out_type=str)
        return units

    def detokenize(self, units: Sequence[str]) -> str:
        """The text of the units."""
        text: str = self.processor.decode_pieces(list(units))
        return text


def learn(captions: Iterable[str], config: TokenizerConfig) -> bytes:
    """A model of at most `tokenizer.subwords` units. The same captions in the same order give the same bytes.

    Raises ConfigError if there are more different characters than units, DataError if no caption has a character.
    """
    sentencepiece, model = _sentencepiece(), io.BytesIO()
    lines = (line for line in map(_squeezed, captions) if line)
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=lines,
            model_writer=model,
            model_type="bpe",
            vocab_size=config.subwords,
            hard_vocab_limit=False,  # few captions have fewer units
            character_coverage=1.0,
            normalization_rule_name="identity",
            max_sentence_length=LONGEST,
            num_threads=1,  # the result would otherwise depend on the machine
            unk_id=0,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            minloglevel=2,
        )
    except RuntimeError as error:
        too_few = re.search(r"smaller than required_chars\. \d+ vs (\d+)", str(error))
        if too_few:
            raise ConfigError(
                f"tokenizer.subwords={config.subwords} is too small: the training captions have "
                f"{too_few[1]} different characters, and each is a unit."
            ) from error
        if "sentences_.empty()" in str(error):
            raise DataError(f"tokenizer={NAME} is learned from the training captions, and there is none.") from error
        raise
    return model.getvalue()


def load(model: bytes) -> Tokenizer:
    """The tokenizer of a learned model. CheckpointError where it is damaged."""
    pieces = SubwordModel(model)
    version = f"1-{hashlib.sha256(model).hexdigest()[:12]}"
    return Tokenizer(NAME, version, pieces.tokenize_all, detokenize=pieces.detokenize, model=model)


def _squeezed(caption: str) -> str:
    return " ".join(caption.split())


def _sentencepiece() -> Any:
    try:
        import sentencepiece
    except ImportError as error:
        raise ConfigError(
            f"tokenizer={NAME} needs SentencePiece: pip install 'captioner[bpe]'. Or choose tokenizer=char, which "
            "needs nothing."
        ) from error
    return sentencepiece


BPE = LearnedTokenizer(NAME, learn, load)
