"""Retrieval by log p(caption | image): every pair scored by hand; the mean image as NumPy computes it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from captioner.analysis import likelihood_retrieval
from captioner.analysis.likelihood_retrieval import likelihood_table, mean_image
from captioner.data.dataset import CaptionDataset, CaptionedImage
from captioner.errors import DataError
from captioner.nn.types import ImageFeatures
from tests.decode.decoders import TinyDecoder, make_features, one_image, score_caption

CAPTIONS = [[4, 5], [], [6, 6, 4, 8], [7]]
DATASET = CaptionDataset("set", "val", tuple(CaptionedImage(i, Path(f"{i}.jpg"), ("a",)) for i in range(5)))


class Source:
    """Features of five images, without those that cannot be read."""

    origin = "a test"

    def __init__(self, features: ImageFeatures, bad: dict[int, str]) -> None:
        self.features, self.bad = features, bad

    def batches(
        self, batches: Sequence[Sequence[int]], epoch: int | None = None
    ) -> Iterator[tuple[list[int], ImageFeatures]]:
        for batch in batches:
            good = [index for index in batch if index not in self.bad]
            yield good, self.features.images(lambda part, good=good: part[good])


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likelihood_retrieval, "IMAGES_PER_BATCH", 2)


def test_every_pair_of_a_caption_and_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder, features = TinyDecoder(words=5), make_features(5)
    source = Source(features, {1: "broken"})
    indices, table = likelihood_table(decoder, source, DATASET, CAPTIONS, 9)
    assert indices == [0, 2, 3, 4]
    assert table.shape == (4, 4)
    for column, index in enumerate(indices):
        for row, caption in enumerate(CAPTIONS):
            alone = score_caption(decoder, one_image(features, index), tuple(caption), finished=True)
            assert table[row, column] == pytest.approx(alone.log_prob, abs=1e-10)


def test_the_mean_image_is_that_of_the_readable_ones() -> None:
    features = make_features(5)
    assert features.grid is not None
    mean = mean_image(Source(features, {1: "broken"}), 5)
    assert mean.grid is not None
    kept = [0, 2, 3, 4]
    np.testing.assert_allclose(mean.vector.numpy()[0], features.vector.numpy()[kept].mean(0), atol=1e-12)
    np.testing.assert_allclose(mean.grid.numpy()[0], features.grid.numpy()[kept].mean(0), atol=1e-12)
    without_grid = mean_image(Source(ImageFeatures(features.vector), {}), 5)
    assert without_grid.grid is None
    np.testing.assert_allclose(without_grid.vector.numpy()[0], features.vector.numpy().mean(0), atol=1e-12)


def test_a_region_is_the_mean_of_the_images_that_have_it() -> None:
    features = make_features(5)
    assert features.grid is not None
    mask = torch.tensor([[True, True, False]] * 2 + [[True, False, False]] * 3)
    mean = mean_image(Source(features._replace(mask=mask), {}), 5)
    assert mean.grid is not None
    grid = features.grid.numpy()
    expected = np.stack([grid[:, 0].mean(0), grid[:2, 1].mean(0), np.zeros(5)])
    np.testing.assert_allclose(mean.grid.numpy()[0], expected, atol=1e-12)


def test_nothing_to_search_is_an_error() -> None:
    with pytest.raises(DataError, match="No image can be read"):
        mean_image(Source(make_features(5), dict.fromkeys(range(5), "broken")), 5)
