"""Which images and captions are trained together, and in which order: a function of the seed and the epoch alone."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch

from captioner.data.collection import collection_paused
from captioner.data.dataset import CaptionDataset
from captioner.data.token_ids import EncodedCaptions
from captioner.errors import DataError
from captioner.text.tokenizers import Tokenizer
from captioner.text.vocabulary import Vocabulary

IMAGES_PER_CALL = 10_000  # whose captions are tokenized in one call: many for speed, not all for memory


class _Numbers(dict[str, int]):
    """Token → its number, by first occurrence."""

    def __missing__(self, token: str) -> int:
        self[token] = number = len(self)
        return number


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

    def tokens_by_image() -> Iterator[list[list[str]]]:
        images = iter(dataset)
        while chunk := list(islice(images, IMAGES_PER_CALL)):
            captions = iter(tokenizer.tokenize_all([caption for image in chunk for caption in image.captions]))
            for image in chunk:
                yield [next(captions) for _ in image.captions]

    return TokenizedCaptions.from_lists(tokens_by_image())


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
