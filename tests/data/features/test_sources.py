"""Features from the cache and from the encoder are the same for training and evaluation."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from captioner.config import AugmentConfig, CacheConfig, FolderConfig
from captioner.data.dataset import CaptionDataset
from captioner.data.datasets.registry import load_dataset
from captioner.data.features.sources import (
    CachedFeatures,
    FeatureSource,
    OnTheFlyFeatures,
    PartiallyCachedFeatures,
    open_features,
)
from captioner.data.images.augment import Augmentation
from captioner.errors import ImageError
from captioner.nn.encoders.build_encoder import build_encoder
from captioner.nn.encoders.encoder import Encoder
from tests.tiny import ENCODER, write_tiny_data

BATCHES = [[5, 0, 2], [7], [3, 6]]


@pytest.fixture
def data(tmp_path: Path) -> FolderConfig:
    return write_tiny_data(tmp_path / "data")


@pytest.fixture
def dataset(data: FolderConfig) -> CaptionDataset:
    return load_dataset(data, "val")


@pytest.fixture
def encoder() -> Encoder:
    return build_encoder(ENCODER).eval()


def source(
    dataset: CaptionDataset, encoder: Encoder, data: FolderConfig, *, cached: bool, with_grid: bool = True
) -> FeatureSource:
    cache = CacheConfig(enabled=cached)
    return open_features(dataset, encoder, with_grid=with_grid, data=data, cache=cache, device=torch.device("cpu"))


@pytest.mark.parametrize("with_grid", [True, False])
def test_both_give_the_same(dataset: CaptionDataset, encoder: Encoder, data: FolderConfig, with_grid: bool) -> None:
    live, stored = (source(dataset, encoder, data, cached=cached, with_grid=with_grid) for cached in (False, True))
    assert (type(live), type(stored)) == (OnTheFlyFeatures, CachedFeatures)
    for (indices, ours), (others, theirs), batch in zip(
        live.batches(BATCHES), stored.batches(BATCHES), BATCHES, strict=True
    ):
        assert indices == others == batch
        torch.testing.assert_close(ours.vector, theirs.vector, rtol=2**-10, atol=1e-5)
        assert (ours.grid is not None) == (theirs.grid is not None) == with_grid
        if ours.grid is not None and theirs.grid is not None:
            torch.testing.assert_close(ours.grid, theirs.grid, rtol=2**-10, atol=1e-5)


def test_flips_from_the_cache_and_from_pixels_are_the_same(
    dataset: CaptionDataset, encoder: Encoder, data: FolderConfig
) -> None:
    """Each (epoch, image) is flipped independently; evaluation, without an epoch, is never flipped."""
    settings = {"with_grid": True, "data": data, "device": torch.device("cpu")}
    nothing, flip = Augmentation(AugmentConfig(), 1), Augmentation(AugmentConfig(flip=0.5), 1)
    stored, live, asked = (
        open_features(dataset, encoder, cache=cache, augmentation=augmentation, **settings)
        for cache, augmentation in (
            (CacheConfig(flips=True), nothing),
            (CacheConfig(enabled=False, flips=True), nothing),
            (CacheConfig(), flip),
        )
    )
    assert (type(stored), type(live), type(asked)) == (CachedFeatures, OnTheFlyFeatures, OnTheFlyFeatures)
    plain = source(dataset, encoder, data, cached=True)
    indices = list(range(8))
    (before,) = (features.vector for _, features in plain.batches([indices]))
    for epoch in (None, 0, 1):
        found = [next(one.batches([indices], epoch))[1].vector for one in (stored, live, asked)]
        torch.testing.assert_close(found[0], found[1], rtol=2**-10, atol=1e-5)
        assert torch.equal(found[1], found[2])
        flipped = {index for index in indices if not torch.equal(found[0][index], before[index])}
        assert flipped == ({i for i in indices if flip.view(epoch, i).flipped} if epoch is not None else set())


def test_augmented_images_are_never_cached_and_evaluation_is_not_augmented(
    dataset: CaptionDataset, encoder: Encoder, data: FolderConfig
) -> None:
    augmentation = Augmentation(AugmentConfig(scale=(0.3, 0.6), flip=0.5), 1)
    settings = {"with_grid": False, "data": data, "device": torch.device("cpu"), "cache": CacheConfig()}
    varied = open_features(dataset, encoder, augmentation=augmentation, **settings)
    assert isinstance(varied, OnTheFlyFeatures)
    assert varied.origin == "pixels (random resized crop of 30% to 60% of the area, 50% flipped, new in each epoch)"
    assert isinstance(open_features(dataset, encoder, **settings), CachedFeatures)
    whole = next(source(dataset, encoder, data, cached=False, with_grid=False).batches([[0, 1]]))[1].vector
    seen = {epoch: next(varied.batches([[0, 1]], epoch))[1].vector for epoch in (None, 0, 1)}
    assert torch.equal(seen[None], whole)
    assert not torch.equal(seen[0], whole)
    assert not torch.equal(seen[0], seen[1])
    exclusive = next(varied.batches([[1]], 0))[1].vector
    torch.testing.assert_close(seen[0][1:], exclusive, msg="in whatever batch")


def gradients(encoder: Encoder, features: FeatureSource, batch: list[int]) -> dict[str, Tensor]:
    """The gradients of a scalar that depends on the whole grid."""
    encoder.zero_grad()
    ((_, found),) = features.batches([batch])
    assert found.grid is not None
    (found.vector.square().sum() + found.grid.cumsum(1).mean()).backward()
    return {name: own.grad.clone() for name, own in encoder.named_parameters() if own.grad is not None}


def test_the_frozen_part_of_a_partly_trainable_encoder_is_cached(dataset: CaptionDataset, data: FolderConfig) -> None:
    """Features and gradients equal those from pixels up to float16 rounding, and change with the weights."""
    learner = build_encoder(replace(ENCODER, fine_tune_from="features.12"))
    live, partly = (source(dataset, learner, data, cached=cached) for cached in (False, True))
    assert (type(live), type(partly)) == (OnTheFlyFeatures, PartiallyCachedFeatures)
    for _ in range(2):
        for (indices, ours), (others, theirs) in zip(live.batches(BATCHES), partly.batches(BATCHES), strict=True):
            assert indices == others
            torch.testing.assert_close(ours.grid, theirs.grid, rtol=2**-8, atol=1e-3)
            torch.testing.assert_close(ours.vector, theirs.vector, rtol=2**-8, atol=1e-3)
        expected, found = (gradients(learner, one, [0, 1, 2]) for one in (live, partly))
        assert found.keys() == expected.keys() == {n for n, p in learner.named_parameters() if p.requires_grad}
        for name, gradient in expected.items():
            assert (found[name] - gradient).norm() <= 0.01 * gradient.norm(), name
        with torch.no_grad():
            for parameter in learner.parameters():
                if parameter.requires_grad:
                    parameter.mul_(1.1)


def test_a_fully_trainable_encoder_is_never_cached(dataset: CaptionDataset, data: FolderConfig) -> None:
    learner = build_encoder(replace(ENCODER, fine_tune_from="features.0"))
    assert isinstance(source(dataset, learner, data, cached=True), OnTheFlyFeatures)
    assert not (Path(os.environ["CAPTIONER_CACHE"]) / "features").exists()


@pytest.mark.parametrize("cached", [True, False])
def test_bad_images_are_left_out_or_stop(
    dataset: CaptionDataset, encoder: Encoder, data: FolderConfig, cached: bool
) -> None:
    for index in (0, 7):
        dataset.images[index].path.write_bytes(b"no image")
    with pytest.raises(ImageError, match=dataset.images[0].path.name):
        list(source(dataset, encoder, data, cached=cached).batches(BATCHES))
    skipping = source(dataset, encoder, replace(data, on_bad_image="skip"), cached=cached)
    found = list(skipping.batches(BATCHES))
    assert [indices for indices, _ in found] == [[5, 2], [], [3, 6]]
    assert [len(features.vector) for _, features in found] == [2, 0, 2]
    assert set(skipping.bad) == {0, 7}
