"""Image vectors predicted from captions: their order, and their similarity with images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch

from captioner.analysis.retrieval import feature_reconstructor, image_vectors, reconstruct_features, similarity
from captioner.config import ChenZitnickConfig, RecurrentConfig
from captioner.errors import ConfigError
from captioner.nn.decoders.build_decoder import build_decoder
from captioner.nn.packing import pack_captions
from captioner.nn.types import ImageFeatures

CAPTIONS = [[4], [5, 6, 7], [], [8, 4]]


def test_vectors_are_in_the_order_of_the_captions() -> None:
    decoder = feature_reconstructor(
        build_decoder(ChenZitnickConfig(embedding_dim=4, hidden_dim=5, visual_dim=3), 9, 6).eval()
    )
    found = reconstruct_features(decoder, CAPTIONS, torch.device("cpu"), batch_size=3)
    for vector, words in zip(found, CAPTIONS, strict=True):
        torch.testing.assert_close(vector, decoder.reconstruct_features(pack_captions([[words]]))[0].detach())


def test_a_model_without_reconstruction_is_an_error() -> None:
    with pytest.raises(ConfigError, match="model=chen_zitnick"):
        feature_reconstructor(build_decoder(RecurrentConfig(embedding_dim=4, hidden_dim=5), 9, 6))


def test_similarity_is_the_cosine_after_subtracting_the_mean() -> None:
    imagined, images = torch.randn(3, 6, dtype=torch.float64), torch.randn(4, 6, dtype=torch.float64) + 5
    mean = images.mean(0).numpy()
    found = similarity(imagined, images)
    for n in range(3):
        for b in range(4):
            first, second = imagined[n].numpy() - mean, images[b].numpy() - mean
            cosine = first @ second / np.linalg.norm(first) / np.linalg.norm(second)
            assert float(found[n, b]) == pytest.approx(cosine, rel=1e-10)


class _WithABadImage:
    bad = {1: "broken"}  # noqa: RUF012 - as FeatureSource has it

    def batches(self, batches: Sequence[Sequence[int]]) -> Iterator[tuple[list[int], ImageFeatures]]:
        for batch in batches:
            good = [index for index in batch if index not in self.bad]
            yield good, ImageFeatures(torch.tensor([[float(index)] * 2 for index in good]).view(-1, 2))


def test_unreadable_images_are_skipped() -> None:
    indices, vectors = image_vectors(_WithABadImage(), 5, batch_size=1)
    assert indices == [0, 2, 3, 4]
    assert vectors[:, 0].tolist() == [0, 2, 3, 4]
