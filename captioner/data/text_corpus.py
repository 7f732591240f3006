"""One long text for the language model: read or generated, cut into three parts, laid out as streams.

The parts follow each other: training, then `val`, then `test` at the end of the text. Nothing is shuffled, so
what is measured was never seen, and stands in its own context.
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
class TextParts:
    """The three parts as token numbers, (N,) int64 each; `vocabulary` was made from the training part alone."""

    name: str
    vocabulary: Vocabulary
    train: Tensor
    val: Tensor
    test: Tensor

    def unknown(self, part: str) -> int:
        """How many tokens of a part are not in the vocabulary: they are read, and scored, as <UNK>."""
        return int((getattr(self, part) == self.vocabulary.special.unknown).sum())


def load_text(config: TextConfig) -> TextParts:
    """Read (or generate) the text and number its tokens; DataError where it cannot be used."""
    text = generate_text(config.size, config.seed) if config.text is None else read_text(Path(config.text))
    name = "generated" if config.text is None else Path(config.text).name
    tokens = split_text(text, config.level)
    test_size, val_size = int(len(tokens) * config.test_fraction), int(len(tokens) * config.val_fraction)
    if min(test_size, val_size) == 0:
        raise DataError(
            f"The text {name} has {len(tokens)} {config.level}, too few to keep some of them for measuring: "
            "give a longer one, or raise data.val_fraction and data.test_fraction."
        )
    end = len(tokens) - test_size
    train, val, test = tokens[: end - val_size], tokens[end - val_size : end], tokens[end:]
    vocabulary = Vocabulary.from_captions([train], VocabularyConfig(min_count=config.min_count))
    numbers = (torch.tensor(vocabulary.encode(part)) for part in (train, val, test))
    return TextParts(name, vocabulary, *numbers)


def read_text(path: Path) -> str:
    """A UTF-8 file, character by character as it is (a byte order mark aside); DataError where it is something else."""
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise DataError(f"data.text={path} {what}: expected a text file in UTF-8.")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 text (byte {error.start} is no character): convert it, for example with "
            f"iconv -f latin1 -t utf-8."
        ) from error
    if not text.strip():
        raise DataError(f"{path} is empty: expected some thousand characters of text.")
    return text


def windows_per_epoch(count: int, streams: int, window: int) -> int:
    """How many windows an epoch has; DataError where the text is too short for so many streams."""
    length = _stream_length(count, streams, window)
    if length < 2:
        raise DataError(
            f"The training part of the text has {count} tokens, too few for trainer.streams={streams} and "
            f"trainer.window={window}: lower them, or give a longer text."
        )
    return -(-length // window)


def text_streams(
    tokens: Int[Tensor, " N"], streams: int, window: int, start: int, seed: int, epoch: int
) -> tuple[Int[Tensor, "B L"], Int[Tensor, "B L"]]:
    """What B streams read and what they should say, for one epoch; `start` is the number of <START>.

    Each stream is a contiguous piece of the text, and the pieces follow each other. Where the first begins moves
    from epoch to epoch by about a window (a function of seed and epoch), so that the borders of windows, over
    which no gradient flows, are not always the same. A stream reads <START> before its first token.
    """
    length = _stream_length(len(tokens), streams, window)
    generator = torch.Generator().manual_seed(mix_seeds(seed, epoch))
    spare = len(tokens) - streams * length
    offset = int(torch.randint(spare + 1, (), generator=generator))
    targets = tokens[offset : offset + streams * length].view(streams, length)
    inputs = torch.cat([targets.new_full((streams, 1), start), targets[:, :-1]], dim=1)
    return inputs, targets


def _stream_length(count: int, streams: int, window: int) -> int:
    """L: as long as the offset leaves, the same in every epoch."""
    return max(0, count - window) // streams
