"""Which images and captions are trained together, and in which order: a function of the seed and the epoch alone."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch

from captioner.data.collection import collection_paused
from captioner.data.dataset import CaptionDataset, CaptionedImage
from captioner.data.token_ids import EncodedCaptions
from captioner.errors import DataError
from captioner.text.ptb import CAPTION_END, Piece
from captioner.text.tokenizers import Tokenizer
from captioner.text.vocabulary import Vocabulary

IMAGES_PER_CALL = 10_000  # whose captions are tokenized in one call: many for speed, not all for memory
IMAGES_PER_PASS = 1_000  # whose captions are divided into pieces together: they fit into the processor's cache


class _Numbers(dict[str, int]):
    """Token → its number, by first occurrence."""

    def __missing__(self, token: str) -> int:
        self[token] = number = len(self)
        return number


class _PackedNumbers(dict[Piece, bytes]):
    """Piece → the numbers of its tokens, as the bytes of 32-bit integers; that of CAPTION_END is _END."""

    def __init__(self, tokens_of_piece: Callable[[Piece], Iterable[str]]) -> None:
        super().__init__()
        self.tokens_of_piece = tokens_of_piece
        self.number_of = _Numbers()

    def __missing__(self, piece: Piece) -> bytes:
        if len(self) >= _MOST_PIECES:  # text without repetition
            self.clear()
        tokens = self.tokens_of_piece(piece)
        numbers = (_END if token == CAPTION_END else self.number_of[token] for token in tokens)
        self[piece] = packed = array("i", numbers).tobytes()
        return packed


_MOST_PIECES = 2**16
_END = -1


@dataclass(frozen=True, eq=False)
class TokenizedCaptions:
    """The tokens of all captions. Memory is saved by storing each distinct token once.

    Iterating gives, for each image, the tokens of each caption.
    """

    tokens: tuple[str, ...]  # the distinct tokens
    indices: EncodedCaptions  # of the captions' tokens in `tokens`

    @classmethod
    def from_lists(cls, images: Iterable[Iterable[Sequence[str]]]) -> TokenizedCaptions:
        """From tokens [image][caption][token]. Captions without any token are left out."""
        index_of = _Numbers()
        number = index_of.__getitem__
        indices = EncodedCaptions.from_lists(
            [map(number, tokens) for tokens in captions if tokens] for captions in images
        )
        return cls(tuple(index_of), indices)

    @classmethod
    def from_pieces(
        cls, images: Iterable[tuple[Sequence[Piece], Sequence[int]]], tokens_of_piece: Callable[[Piece], Iterable[str]]
    ) -> TokenizedCaptions:
        """From the pieces of the captions of some images, and the number of captions of each of them, and so on.

        As `from_lists`: captions without any token are left out.
        """
        packed = _PackedNumbers(tokens_of_piece)
        token_ids: list[np.ndarray] = []
        lengths: list[np.ndarray] = []
        of_images: list[np.ndarray] = []
        for pieces, captions_per_image in images:
            numbers = np.frombuffer(b"".join(map(packed.__getitem__, pieces)), np.int32)
            in_chunk = np.diff(np.flatnonzero(numbers == _END), prepend=-1) - 1
            first = np.append(0, np.cumsum(captions_per_image, dtype=np.int64))
            of_images.append(np.diff(np.append(0, np.cumsum(in_chunk > 0))[first]))
            lengths.append(in_chunk[in_chunk > 0])
            token_ids.append(numbers[numbers != _END])
        indices = EncodedCaptions(_joined(token_ids, np.int32), _offsets(lengths), _offsets(of_images))
        return cls(tuple(packed.number_of), indices)

    @property
    def counts(self) -> dict[str, int]:
        """Token → how often it occurs."""
        counts = np.bincount(self.indices.token_ids, minlength=len(self.tokens))
        return dict(zip(self.tokens, counts.tolist(), strict=True))

    def __iter__(self) -> Iterator[list[list[str]]]:
        return ([[self.tokens[index] for index in caption] for caption in captions] for captions in self.indices)


@collection_paused()
def tokenize_captions(dataset: CaptionDataset, tokenizer: Tokenizer) -> TokenizedCaptions:
    """The tokens of every caption of every image. Captions without any token are left out."""

    def chunks(size: int) -> Iterator[tuple[list[CaptionedImage], list[str]]]:
        images = iter(dataset)
        while chunk := list(islice(images, size)):
            yield chunk, [caption for image in chunk for caption in image.captions]

    def tokens_by_image() -> Iterator[list[list[str]]]:
        for chunk, texts in chunks(IMAGES_PER_CALL):
            captions = iter(tokenizer.tokenize_all(texts))
            for image in chunk:
                yield [next(captions) for _ in image.captions]

    if tokenizer.pieces is None or tokenizer.tokens_of_piece is None:
        return TokenizedCaptions.from_lists(tokens_by_image())
    divide = tokenizer.pieces
    return TokenizedCaptions.from_pieces(
        ((divide(texts), [len(image.captions) for image in chunk]) for chunk, texts in chunks(IMAGES_PER_PASS)),
        tokenizer.tokens_of_piece,
    )


def _joined(arrays: Sequence[np.ndarray], dtype: type[np.generic]) -> np.ndarray:
    return np.concatenate([np.zeros(0, dtype), *arrays])


def _offsets(counts: Sequence[np.ndarray]) -> np.ndarray:
    """(n + 1,): where each of n parts begins, and the end of the last one, from their sizes."""
    return np.append(0, np.cumsum(_joined(counts, np.int64)))


def encode_captions(tokenized: TokenizedCaptions, vocabulary: Vocabulary, max_length: int) -> EncodedCaptions:
    """Tokens → token ids. Captions of more than `max_length` tokens are truncated."""
    truncated = tokenized.indices.truncate(max_length)
    token_ids = np.array(vocabulary.encode(tokenized.tokens), np.int32)
    return replace(truncated, token_ids=token_ids[truncated.token_ids])


def captioned_images(captions: EncodedCaptions, dataset: CaptionDataset) -> Sequence[int]:
    """Indices of the images that have a caption; DataError if there are none."""
    indices = array("q", np.flatnonzero(captions.captions_per_image).tobytes())  # a fifth of a list's memory
    if not indices:
        raise DataError(
            f"No image of {dataset.name}'s {dataset.split} split has a caption: there is nothing to train on."
        )
    return indices


def epoch_batches(indices: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[Sequence[int]]:
    """`indices`, shuffled for this epoch, in batches; the last one may be smaller."""
    generator = torch.Generator().manual_seed(mix_seeds(seed, epoch))
    order = torch.randperm(len(indices), generator=generator).numpy()
    shuffled = np.asarray(indices, np.int64)[order]
    starts = range(0, len(order), batch_size)
    return [array("q", shuffled[start : start + batch_size].tobytes()) for start in starts]  # eight bytes per image


def choose_captions(
    captions: Sequence[Sequence[int]], count: int | None, seed: int, epoch: int, index: int
) -> list[Sequence[int]]:
    """All captions of image `index`, or a new random sample of `count` of them in each epoch, without replacement."""
    if count is None or count >= len(captions):
        return list(captions)
    generator = torch.Generator().manual_seed(mix_seeds(seed, epoch, index))
    return [captions[i] for i in torch.randperm(len(captions), generator=generator)[:count].tolist()]


def mix_seeds(*values: int) -> int:
    """One generator seed from several integers, such that neighboring values give different random streams."""
    mixed = 0
    for value in values:
        mixed = (mixed * 6364136223846793005 + value + 1442695040888963407) % 2**63
    return mixed


def sequential_batches(count: int, batch_size: int) -> list[list[int]]:
    """The indices 0 … count − 1 in order, in batches, for evaluation."""
    return [list(range(start, min(start + batch_size, count))) for start in range(0, count, batch_size)]
