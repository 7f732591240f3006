"""The loss on reference captions: −log p(reference | image) in nats per token, and the perplexity.

Every reference caption of the split counts, whole, and <END> counts as a token; a word outside the vocabulary is <UNK>.
There is no dropout, augmentation or label smoothing. Only values of models with one vocabulary and tokenizer can be
compared. Computed while the split is captioned, from the same features; the search never sees a reference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from captioner.data.batches import encode_captions, tokenize_captions
from captioner.data.dataset import CaptionDataset
from captioner.data.token_ids import EncodedCaptions
from captioner.decode.sampling import image_seeds
from captioner.decode.teacher_forcing import token_log_probs
from captioner.distributed.ranks import all_gather
from captioner.evaluation.evaluation import ReferenceLoss
from captioner.nn.decoders.decoder import Decoder
from captioner.nn.types import ImageFeatures
from captioner.text.tokenizers import Tokenizer
from captioner.text.vocabulary import Vocabulary


def encode_references(dataset: CaptionDataset, tokenizer: Tokenizer, vocabulary: Vocabulary) -> EncodedCaptions:
    """The reference captions of a split as the token ids of a model, none of them truncated."""
    tokenized = tokenize_captions(dataset, tokenizer)
    longest = max((len(caption) for captions in tokenized.indices for caption in captions), default=0)
    return encode_captions(tokenized, vocabulary, longest)


@dataclass
class ReferenceLossSum:
    """Sums the loss over the batches of a split; every process of a job adds those of its own images.

    references: of the split, see `encode_references`. seed: of a decoder that samples where to attend.
    """

    dataset: CaptionDataset
    references: EncodedCaptions
    vocabulary_size: int
    seed: int = 0

    def __post_init__(self) -> None:
        self._of_images: dict[int, tuple[float, int]] = {}  # nats and tokens

    def add(self, decoder: Decoder[Any], indices: Sequence[int], features: ImageFeatures) -> None:
        """Add the references of the images `indices` of the split; the decoder is in eval mode."""
        ids = [self.dataset.images[index].image_id for index in indices]
        seeds = image_seeds(self.seed, ids).to(features.vector.device)
        captions = [self.references[index] for index in indices]
        nats: list[list[float]] = [[] for _ in indices]
        for image, _, tokens in token_log_probs(
            decoder, features._replace(seeds=seeds), captions, self.vocabulary_size
        ):
            nats[image].append(-tokens.total)
        for index, of_image, values in zip(indices, captions, nats, strict=True):
            self._of_images[index] = (math.fsum(values), sum(len(caption) + 1 for caption in of_image))

    def gather(self) -> ReferenceLoss | None:
        """The loss over the images of all processes; None where they have no reference."""
        of_images = {index: values for of_rank in all_gather(self._of_images) for index, values in of_rank.items()}
        tokens = sum(count for _, count in of_images.values())
        if not tokens:
            return None
        return ReferenceLoss(math.fsum(nats for nats, _ in of_images.values()), tokens)
