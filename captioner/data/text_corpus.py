"""One long text for the language model: read or generated, divided into train, val and test, and laid out as streams.

Training data comes first, then `val`, then `test` at the end of the text. Nothing is shuffled, so the held-out splits
are never seen in training and keep their own context.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from captioner.config import TextConfig, VocabularyConfig
from captioner.data.batches import mix_seeds
from captioner.data.synthetic.texts.generate_text import generate_text
from captioner.errors import DataError
from captioner.text.text_tokens import split_text
from captioner.text.vocabulary import Vocabulary


@dataclass(frozen=True)
class TextSplits:
    """The splits as token ids, (N,) int64 each. The vocabulary comes from the training split alone."""

    name: str
    vocabulary: Vocabulary
    train: Tensor
    val: Tensor
    test: Tensor

    def count_unknown(self, split: str) -> int:
        """The number of tokens of a split that are not in the vocabulary. They are read and scored as <UNK>."""
        return int((getattr(self, split) == self.vocabulary.special.unknown).sum())


def load_text(config: TextConfig) -> TextSplits:
    """Read or generate the text and encode its tokens; DataError if it cannot be used."""
    text = generate_text(config.size, config.seed) if config.text is None else read_text(Path(config.text))
    name = "generated" if config.text is None else Path(config.text).name
    tokens = split_text(text, config.level)
    test_size, val_size = int(len(tokens) * config.test_fraction), int(len(tokens) * config.val_fraction)
    if min(test_size, val_size) == 0:
        raise DataError(
            f"The text {name} has {len(tokens)} {config.level}, too few for a val and a test split: "
            "give a longer text, or raise data.val_fraction and data.test_fraction."
        )
    end = len(tokens) - test_size
    train, val, test = tokens[: end - val_size], tokens[end - val_size : end], tokens[end:]
    vocabulary = Vocabulary.from_captions([train], VocabularyConfig(min_count=config.min_count))
    token_ids = (torch.tensor(vocabulary.encode(split)) for split in (train, val, test))
    return TextSplits(name, vocabulary, *token_ids)


def read_text(path: Path) -> str:
    """The content of a UTF-8 file, unchanged except for a byte order mark; DataError if it is no such file."""
    if not path.is_file():
        problem = "is a folder" if path.is_dir() else "does not exist"
        raise DataError(f"data.text={path} {problem}: expected a text file in UTF-8.")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 text (byte {error.start} is invalid): convert it, for example with "
            f"iconv -f latin1 -t utf-8."
        ) from error
    if not text.strip():
        raise DataError(f"{path} is empty: expected several thousand characters of text.")
    return text


def windows_per_epoch(count: int, streams: int, window: int) -> int:
    """The number of windows per epoch; DataError if the text is too short for `streams` streams."""
    length = _stream_length(count, streams, window)
    if length < 2:
        raise DataError(
            f"The training split of the text has {count} tokens, too few for trainer.streams={streams} and "
            f"trainer.window={window}: lower them, or give a longer text."
        )
    return -(-length // window)


def text_streams(
    tokens: Int[Tensor, " N"], streams: int, window: int, start: int, seed: int, epoch: int
) -> tuple[Int[Tensor, "B L"], Int[Tensor, "B L"]]:
    """Input and target token ids of B = `streams` streams for one epoch. `start` is the id of <START>.

    Each stream is a contiguous piece of the text, and the pieces follow each other. The position of the first one
    varies by up to about a window between epochs (a function of seed and epoch), so that window boundaries, across
    which no gradient flows, are not always the same. The first input of a stream is <START>.
    """
    length = _stream_length(len(tokens), streams, window)
    generator = torch.Generator().manual_seed(mix_seeds(seed, epoch))
    spare = len(tokens) - streams * length
    offset = int(torch.randint(spare + 1, (), generator=generator))
    targets = tokens[offset : offset + streams * length].view(streams, length)
    inputs = torch.cat([targets.new_full((streams, 1), start), targets[:, :-1]], dim=1)
    return inputs, targets


def _stream_length(count: int, streams: int, window: int) -> int:
    """L, the tokens per stream: the same in every epoch, whatever the position of the first stream."""
    return max(0, count - window) // streams
