"""Which images and captions are trained together, in which order: a function of the seed and the epoch alone."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch

from captioner.data.dataset import CaptionDataset
from captioner.data.token_ids import EncodedCaptions
from captioner.errors import DataError
from captioner.text.tokenizers import Tokenizer
from captioner.text.vocabulary import Vocabulary

IMAGES_AT_ONCE = 10_000  # whose captions are text and tokens at the same time: tokenizers like many, memory few


@dataclass(frozen=True, eq=False)
class TokenizedCaptions:
    """The tokens of every caption; in memory, each different one is there once, and captions are its places.

    Iterating gives, image by image, the tokens of its captions.
    """

    tokens: tuple[str, ...]
    places: EncodedCaptions

    def __iter__(self) -> Iterator[list[list[str]]]:
        return ([[self.tokens[place] for place in caption] for caption in captions] for captions in self.places)


def tokenize_captions(dataset: CaptionDataset, tokenizer: Tokenizer) -> TokenizedCaptions:
    """Tokens of every caption, image by image; a caption without any token is left out."""
    place_of: dict[str, int] = {}

    def by_image() -> Iterator[list[list[int]]]:
        images = iter(dataset)
        while some := list(islice(images, IMAGES_AT_ONCE)):
            tokens = iter(tokenizer.tokenize_all([caption for image in some for caption in image.captions]))
            for image in some:
                captions = (next(tokens) for _ in image.captions)
                yield [[place_of.setdefault(token, len(place_of)) for token in own] for own in captions if own]

    places = EncodedCaptions.of(by_image())
    return TokenizedCaptions(tuple(place_of), places)


def encode_captions(tokenized: TokenizedCaptions, vocabulary: Vocabulary, max_length: int) -> EncodedCaptions:
    """Tokens → numbers, longer captions cut to `max_length` words."""
    cut = tokenized.places.cut(max_length)
    number_of = np.array(vocabulary.encode(tokenized.tokens), np.int32)
    return replace(cut, words=number_of[cut.words])


def captioned_images(captions: EncodedCaptions, dataset: CaptionDataset) -> Sequence[int]:
    """Indices of the images that have a caption to learn from; DataError where none has."""
    indices = array("q", np.flatnonzero(captions.counts).tobytes())  # a list would take five times the memory
    if not indices:
        raise DataError(f"No image of {dataset.name}'s {dataset.split} split has a caption: there is nothing to learn.")
    return indices


def epoch_batches(indices: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[Sequence[int]]:
    """All of `indices`, shuffled for this epoch, in batches; the last one may be smaller."""
    generator = torch.Generator().manual_seed(mix_seeds(seed, epoch))
    order = torch.randperm(len(indices), generator=generator).numpy()
    shuffled = np.asarray(indices, np.int64)[order]
    starts = range(0, len(order), batch_size)
    return [array("q", shuffled[start : start + batch_size].tobytes()) for start in starts]  # eight bytes an image


def choose_captions(
    captions: Sequence[Sequence[int]], count: int | None, seed: int, epoch: int, index: int
) -> list[Sequence[int]]:
    """All captions of image `index`, or `count` of them drawn anew each epoch without replacement."""
    if count is None or count >= len(captions):
        return list(captions)
    generator = torch.Generator().manual_seed(mix_seeds(seed, epoch, index))
    return [captions[i] for i in torch.randperm(len(captions), generator=generator)[:count].tolist()]


def mix_seeds(*numbers: int) -> int:
    """One generator seed out of several numbers, such that neighbours do not share streams."""
    mixed = 0
    for number in numbers:
        mixed = (mixed * 6364136223846793005 + number + 1442695040888963407) % 2**63
    return mixed


def sequential_batches(count: int, batch_size: int) -> list[list[int]]:
    """0 … count−1 in order, in batches: for evaluation."""
    return [list(range(start, min(start + batch_size, count))) for start in range(0, count, batch_size)]
