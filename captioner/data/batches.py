"""Which pictures and captions are trained together, in which order: a function of the seed and the epoch alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from captioner.data.dataset import CaptionDataset
from captioner.errors import DataError
from captioner.text.tokenizers import Tokenizer
from captioner.text.vocabulary import Vocabulary

NumberedCaptions = list[list[list[int]]]
"""Captions of every picture of a data set as word numbers: [picture][caption][word]."""


def tokenize_captions(dataset: CaptionDataset, tokenizer: Tokenizer) -> list[list[list[str]]]:
    """Tokens of every caption, picture by picture; a caption without any token is left out."""
    tokens = iter(tokenizer.tokenize_all([caption for image in dataset for caption in image.captions]))
    return [[words for _ in image.captions if (words := next(tokens))] for image in dataset]


def number_captions(
    tokenized: Sequence[Sequence[Sequence[str]]], vocabulary: Vocabulary, max_length: int
) -> NumberedCaptions:
    """Tokens → numbers, longer captions cut to `max_length` words."""
    return [[vocabulary.encode(words[:max_length]) for words in captions] for captions in tokenized]


def captioned_pictures(captions: NumberedCaptions, dataset: CaptionDataset) -> list[int]:
    """Indices of the pictures that have a caption to learn from; DataError where none has."""
    indices = [index for index, own in enumerate(captions) if own]
    if not indices:
        raise DataError(
            f"No picture of {dataset.name}'s {dataset.split} split has a caption: there is nothing to learn."
        )
    return indices


def epoch_batches(indices: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """All of `indices`, shuffled for this epoch, in batches; the last one may be smaller."""
    generator = torch.Generator().manual_seed(mix_seeds(seed, epoch))
    order = torch.randperm(len(indices), generator=generator).tolist()
    return [[indices[i] for i in order[start : start + batch_size]] for start in range(0, len(order), batch_size)]


def choose_captions(
    captions: Sequence[Sequence[int]], count: int | None, seed: int, epoch: int, index: int
) -> list[Sequence[int]]:
    """All captions of picture `index`, or `count` of them drawn anew each epoch without replacement."""
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
