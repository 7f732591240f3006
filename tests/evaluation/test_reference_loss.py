"""The loss on reference captions against the sum over single tokens, in any batches."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest

from captioner.data.batches import sequential_batches
from captioner.data.dataset import CaptionDataset, CaptionedImage
from captioner.evaluation.evaluation import ReferenceLoss
from captioner.evaluation.reference_loss import ReferenceLossSum, encode_references
from captioner.nn.types import ImageFeatures
from captioner.text.tokenizers import PTB
from captioner.text.vocabulary import Vocabulary
from tests.decode.decoders import TinyDecoder, make_features, one_image, score_caption

CAPTIONS = [
    ("A dog runs.", "the dog"),
    (),
    ("a quokka on " + "a dog on " * 40 + "the dog",),  # longer than what training truncates, with an unknown word
    ("the dog runs on the dog", "...", "A dog"),  # one has no token and does not count
]
VOCABULARY = Vocabulary(["a", "dog", "the", "runs", "on"])


def dataset_of(captions: list[tuple[str, ...]]) -> CaptionDataset:
    images = tuple(CaptionedImage(index, Path(f"{index}.jpg"), of_image) for index, of_image in enumerate(captions))
    return CaptionDataset("set", "val", images)


def loss_in_batches(dataset: CaptionDataset, features: ImageFeatures, size: int) -> ReferenceLoss | None:
    decoder = TinyDecoder(words=5)
    total = ReferenceLossSum(dataset, encode_references(dataset, PTB, VOCABULARY), len(VOCABULARY))
    for indices in sequential_batches(len(dataset), size):
        first, last = indices[0], indices[-1] + 1
        assert features.grid is not None
        total.add(decoder, indices, ImageFeatures(features.vector[first:last], features.grid[first:last]))
    return total.gather()


@pytest.mark.parametrize("size", [1, 2, 4])
def test_it_is_the_mean_over_all_tokens_of_all_references(size: int) -> None:
    dataset, features = dataset_of(CAPTIONS), make_features(4)
    found = loss_in_batches(dataset, features, size)
    nats, tokens = 0.0, 0
    for index, caption in itertools.chain.from_iterable(
        [(index, caption) for caption in of_image] for index, of_image in enumerate(CAPTIONS)
    ):
        words = caption.lower().replace(".", "").split()
        if words:
            ids = tuple(VOCABULARY.encode(words))
            nats -= score_caption(TinyDecoder(words=5), one_image(features, index), ids, finished=True).log_prob
            tokens += len(words) + 1
    assert found is not None
    assert found.tokens == tokens
    assert found.nats == pytest.approx(nats, abs=1e-8)
    assert found.scores == pytest.approx({"loss": nats / tokens, "perplexity": math.exp(nats / tokens)}, abs=1e-9)


def test_a_split_without_references_has_none() -> None:
    assert loss_in_batches(dataset_of([(), ()]), make_features(2), 2) is None


def test_a_loss_too_large_for_its_perplexity_is_still_a_loss() -> None:
    assert ReferenceLoss(8000.0, 10).scores == {"loss": 800.0, "perplexity": math.inf}
