"""Where a model's features come from: the cache, or the encoder itself. Training and evaluation see one interface."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from captioner.config import CacheConfig, DataConfig
from captioner.data.dataset import CaptionDataset
from captioner.data.features.cache import cached_features
from captioner.data.images.augment import Augmentation
from captioner.data.images.loader import load_image_batches, whole_image
from captioner.nn.encoders.encoder import Encoder, FrozenPart
from captioner.nn.types import ImageFeatures

MIRRORED_SHARE = 0.5  # of the images, with cache.flips


class FeatureSource(Protocol):
    """Features of a data set's images by index.

    bad: index → why, for images that could not be read so far; origin: where the features come from, in words.
    """

    bad: dict[int, str]
    origin: str

    def batches(
        self, batches: Iterable[Sequence[int]], epoch: int | None = None
    ) -> Iterator[tuple[list[int], ImageFeatures]]:
        """For each batch of indices: those that could be read (maybe none), and their features on the source's device.

        `epoch`: of training, by which images are varied, where the source was made to; None, for evaluation: never.
        Nothing is computed before it is asked for, so that each batch is encoded with the weights of its moment.
        """
        ...


class OnTheFlyFeatures:
    """Images are decoded and encoded each time, with gradients where the caller's mode has them."""

    def __init__(
        self,
        dataset: CaptionDataset,
        encoder: Encoder,
        data: DataConfig,
        device: torch.device,
        with_grid: bool,
        augmentation: Augmentation | None = None,
    ) -> None:
        self.paths = dataset.paths
        self.encoder, self.data, self.device, self.with_grid = encoder, data, device, with_grid
        self.augmentation = augmentation
        self.bad: dict[int, str] = {}
        self.origin = f"pixels{_described(augmentation)}"

    def batches(
        self, batches: Iterable[Sequence[int]], epoch: int | None = None
    ) -> Iterator[tuple[list[int], ImageFeatures]]:
        """See FeatureSource."""
        view_of = whole_image
        if self.augmentation is not None and epoch is not None:
            view_of = partial(self.augmentation.view, epoch)
        for loaded in load_image_batches(self.paths, batches, self.encoder.transform, self.data, view_of):
            self.bad |= loaded.bad
            features = self._encode(loaded.images) if loaded.indices else self._nothing()
            yield loaded.indices, features if self.with_grid else ImageFeatures(features.vector)

    def _encode(self, images: Tensor) -> ImageFeatures:
        features: ImageFeatures = self.encoder(images.to(self.device))
        return features

    def _nothing(self) -> ImageFeatures:
        rows, columns = self.encoder.grid_size
        grid = torch.empty(0, rows * columns, self.encoder.feature_dim, device=self.device)
        return ImageFeatures(grid.mean(1), grid)


class PartiallyCachedFeatures:
    """The output of the encoder's frozen blocks from the cache, the rest of it computed each time, with gradients.

    Fine-tuning then costs what its own blocks cost: with EfficientNet-Lite0 from features.6 on, a third of the encoder.
    """

    def __init__(self, encoder: Encoder, part: FrozenPart, stored: CachedFeatures) -> None:
        self.encoder, self.part, self.stored = encoder, part, stored
        self.bad = stored.bad
        self.origin = f"{stored.origin} as far as the encoder is frozen"

    def batches(
        self, batches: Iterable[Sequence[int]], epoch: int | None = None
    ) -> Iterator[tuple[list[int], ImageFeatures]]:
        """See FeatureSource."""
        rows, _ = self.part.grid_size
        for indices, features in self.stored.batches(batches, epoch):
            assert features.grid is not None  # the part's: asked for below
            yield indices, self.encoder.forward_trainable_part(features.grid, rows)


class CachedFeatures:
    """Features from the cache; what was missing there is computed when this is made.

    `mirroring`: an augmentation that mirrors and does nothing else.
    """

    def __init__(
        self,
        dataset: CaptionDataset,
        encoder: Encoder | FrozenPart,
        data: DataConfig,
        cache: CacheConfig,
        device: torch.device,
        with_grid: bool,
        mirroring: Augmentation | None = None,
    ) -> None:
        self.device, self.mirroring = device, mirroring
        self.cached = cached_features(
            dataset,
            encoder,
            with_grid=with_grid,
            cache=cache,
            data=data,
            device=device,
            mirrored=mirroring is not None,
        )
        self.bad = self.cached.bad
        self.origin = f"the cache{_described(mirroring)}"

    def batches(
        self, batches: Iterable[Sequence[int]], epoch: int | None = None
    ) -> Iterator[tuple[list[int], ImageFeatures]]:
        """See FeatureSource."""
        for batch in batches:
            indices = [index for index in batch if index not in self.bad]
            features = self.cached.get(indices, self._mirrored(indices, epoch))
            grid = None if features.grid is None else features.grid.to(self.device)
            yield indices, ImageFeatures(features.vector.to(self.device), grid)

    def _mirrored(self, indices: Sequence[int], epoch: int | None) -> set[int]:
        if self.mirroring is None or epoch is None:
            return set()
        return {index for index in indices if self.mirroring.view(epoch, index).mirrored}


def open_features(
    dataset: CaptionDataset,
    encoder: Encoder,
    *,
    with_grid: bool,
    data: DataConfig,
    cache: CacheConfig,
    device: torch.device,
    augmentation: Augmentation | None = None,
) -> FeatureSource:
    """The cache where it is wanted and images are not varied, as far as the encoder is frozen; else the encoder.

    `augmentation`: of a training; None for evaluation, which sees every image as it is. With `cache.flips` it
    mirrors half of the images, which the cache can serve, too.
    """
    frozen = not any(parameter.requires_grad for parameter in encoder.parameters())
    varied = augmentation is not None and augmentation.config.active
    if augmentation is not None and cache.flips and not augmentation.config.flip:
        augmentation = replace(augmentation, config=replace(augmentation.config, flip=MIRRORED_SHARE))
    if augmentation is not None and not augmentation.config.active:
        augmentation = None
    if cache.enabled and not varied:
        if frozen:
            return CachedFeatures(dataset, encoder, data, cache, device, with_grid, augmentation)
        part = encoder.frozen_part()
        if part is not None:
            part = part.to(device)
            stored = CachedFeatures(dataset, part, data, cache, device, True, augmentation)
            return PartiallyCachedFeatures(encoder, part, stored)
    return OnTheFlyFeatures(dataset, encoder, data, device, with_grid, augmentation)


def _described(augmentation: Augmentation | None) -> str:
    """What is done to images, anew in each epoch."""
    if augmentation is None:
        return ""
    config = augmentation.config
    parts = []
    if config.scale != (1.0, 1.0) or config.ratio != (1.0, 1.0):
        parts.append(f"boxes of {config.scale[0]:.0%} to {config.scale[1]:.0%} of the area")
    if config.flip:
        parts.append(f"{config.flip:.0%} mirrored")
    return f" ({', '.join(parts)}, drawn anew each epoch)"
