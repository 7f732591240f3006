"""Where a model's features come from: the cache, or the encoder itself. Training and evaluation see one interface."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from captioner.config import CacheConfig, DataConfig
from captioner.data.cache import cached_features
from captioner.data.dataset import CaptionDataset
from captioner.data.loading import load_pictures
from captioner.nn.encoder import Encoder
from captioner.nn.state import ImageFeatures


class FeatureSource(Protocol):
    """Features of a data set's pictures by index. `bad`: index → why, for pictures that could not be read so far."""

    bad: dict[int, str]

    def batches(self, batches: Sequence[Sequence[int]]) -> Iterator[tuple[list[int], ImageFeatures]]:
        """For each batch of indices: those that could be read (maybe none), and their features on the source's device.

        Nothing is computed before it is asked for, so that each batch is encoded with the weights of its moment.
        """
        ...


class LiveFeatures:
    """Pictures are decoded and encoded each time, with gradients where the caller's mode has them."""

    def __init__(
        self, dataset: CaptionDataset, encoder: Encoder, data: DataConfig, device: torch.device, with_grid: bool
    ) -> None:
        self.paths = dataset.paths
        self.encoder, self.data, self.device, self.with_grid = encoder, data, device, with_grid
        self.bad: dict[int, str] = {}

    def batches(self, batches: Sequence[Sequence[int]]) -> Iterator[tuple[list[int], ImageFeatures]]:
        """See FeatureSource."""
        for loaded in load_pictures(self.paths, batches, self.encoder.transform, self.data):
            self.bad |= loaded.bad
            features = self._encode(loaded.pictures) if loaded.indices else self._nothing()
            yield loaded.indices, features if self.with_grid else ImageFeatures(features.vector)

    def _encode(self, pictures: Tensor) -> ImageFeatures:
        features: ImageFeatures = self.encoder(pictures.to(self.device))
        return features

    def _nothing(self) -> ImageFeatures:
        rows, columns = self.encoder.grid_size
        grid = torch.empty(0, rows * columns, self.encoder.feature_dim, device=self.device)
        return ImageFeatures(grid.mean(1), grid)


class StoredFeatures:
    """Features from the cache; what was missing there is computed when this is made."""

    def __init__(
        self,
        dataset: CaptionDataset,
        encoder: Encoder,
        data: DataConfig,
        cache: CacheConfig,
        device: torch.device,
        with_grid: bool,
    ) -> None:
        self.device = device
        self.cached = cached_features(dataset, encoder, with_grid=with_grid, cache=cache, data=data, device=device)
        self.bad = self.cached.bad

    def batches(self, batches: Sequence[Sequence[int]]) -> Iterator[tuple[list[int], ImageFeatures]]:
        """See FeatureSource."""
        for batch in batches:
            indices = [index for index in batch if index not in self.bad]
            vector, grid = self.cached.get(indices)
            yield indices, ImageFeatures(vector.to(self.device), None if grid is None else grid.to(self.device))


def open_features(
    dataset: CaptionDataset,
    encoder: Encoder,
    *,
    with_grid: bool,
    data: DataConfig,
    cache: CacheConfig,
    device: torch.device,
) -> FeatureSource:
    """The cache where it is wanted and the encoder is frozen; otherwise the encoder."""
    frozen = not any(parameter.requires_grad for parameter in encoder.parameters())
    if cache.enabled and frozen:
        return StoredFeatures(dataset, encoder, data, cache, device, with_grid)
    return LiveFeatures(dataset, encoder, data, device, with_grid)
