"""The data of a planned training: read from disk where it is there, otherwise the published sizes of the data set."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from captioner.config import TrainConfig
from captioner.data.batches import captioned_images, encode_captions, tokenize_captions
from captioner.data.dataset import ImagePath
from captioner.data.datasets.registry import load_dataset
from captioner.data.token_ids import EncodedCaptions
from captioner.errors import CaptionerError
from captioner.text.tokenizers import build_tokenizer
from captioner.text.vocabulary import SPECIAL_NAMES, Vocabulary
from captioner.training.setup import check_settings

CAPTION_WORDS = 10.5  # mean length of COCO's captions as PTB tokens


@dataclass(frozen=True)
class PublishedSize:
    """Images of the splits train and val, captions per image, and words that occur five times or more."""

    train: int
    val: int
    captions_per_image: int
    vocabulary: int


PUBLISHED = {
    "coco": PublishedSize(113_287, 5_000, 5, 9_486),  # Karpathy and Fei-Fei 2015, train and restval together
    "flickr30k": PublishedSize(29_000, 1_014, 5, 7_000),
    "flickr8k": PublishedSize(6_000, 1_000, 5, 2_538),
}
"""Data set → its size, for a plan that is made before the data is there."""


@dataclass(frozen=True)
class TrainingInputs:
    """The sizes that the cost of a training depends on.

    captions: token ids of some training images (all of them where the data is there), for timing. problems: messages
    about what would stop the training. is_published: the data is not there, and the sizes are published ones.
    text_bytes: memory of the texts and token ids in each process.
    """

    train_images: int
    val_images: int
    captions_per_image: float
    vocabulary: int
    captions: EncodedCaptions
    images: Sequence[ImagePath]
    is_published: bool
    text_bytes: int
    problems: list[str] = field(default_factory=list)


def read_inputs(config: TrainConfig) -> TrainingInputs:
    """The data of a run with these settings. A data set that is not there gives a problem and its published size.

    Raises the data set's own error where it has no published size.
    """
    try:
        check_settings(config)
        train, val = load_dataset(config.data, "train"), load_dataset(config.data, "val")
    except CaptionerError as error:
        published = PUBLISHED.get(config.data.name)
        if published is None:
            raise
        return _published_inputs(published, str(error))
    tokenized = tokenize_captions(train, build_tokenizer(config.tokenizer))
    vocabulary = Vocabulary.from_counts(tokenized.counts, config.vocabulary)
    captions = encode_captions(tokenized, vocabulary, config.trainer.max_caption_length)
    usable = captioned_images(captions, train)
    texts = sum(sys.getsizeof(text) for image in (*train.images, *val.images) for text in image.captions)
    return TrainingInputs(
        train_images=len(usable),
        val_images=len(val.images),
        captions_per_image=float(captions.captions_per_image[np.asarray(usable)].mean()),
        vocabulary=len(vocabulary),
        captions=captions,
        images=[image.path for image in train.images],
        is_published=False,
        text_bytes=texts + sum(array.nbytes for array in captions.arrays),
    )


def _published_inputs(size: PublishedSize, problem: str) -> TrainingInputs:
    """Sizes from the literature, and made-up captions of the usual length."""
    generator = np.random.default_rng(0)
    first = len(SPECIAL_NAMES)

    def caption() -> list[int]:
        length = max(1, int(generator.poisson(CAPTION_WORDS)))
        return [int(token) for token in generator.integers(first, size.vocabulary, length)]

    captions = EncodedCaptions.from_lists([[caption() for _ in range(size.captions_per_image)] for _ in range(256)])
    per_caption = sum(array.nbytes for array in captions.arrays) / (256 * size.captions_per_image) + 100  # and the text
    return TrainingInputs(
        train_images=size.train,
        val_images=size.val,
        captions_per_image=size.captions_per_image,
        vocabulary=size.vocabulary,
        captions=captions,
        images=[],
        is_published=True,
        text_bytes=int(per_caption * size.captions_per_image * (size.train + size.val)),
        problems=[problem],
    )
