"""Where features come from: the cache, the encoder, or both. Training and evaluation use one interface for all."""

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
from captioner.data.features.precomputed.source import PrecomputedFeatures
from captioner.data.features.view_features import ViewFeatures, has_views
from captioner.data.images.augment import Augmentation
from captioner.data.images.loader import full_view, load_image_batches
from captioner.errors import ConfigError, DataError
from captioner.nn.encoders.encoder import Encoder, FrozenPart
from captioner.nn.model import CaptioningModel
from captioner.nn.types import ImageFeatures

FLIP_PROBABILITY = 0.5  # with cache.flips


class FeatureSource(Protocol):
    """Features of a data set's images, by index.

    bad: index → why an image could not be read, for those found so far; origin: where the features come from, for logs;
    content: a digest of what the features were computed from, or None where that has not been read yet.
    """

    bad: dict[int, str]
    origin: str
    content: str | None

    def batches(
        self, batches: Iterable[Sequence[int]], epoch: int | None = None
    ) -> Iterator[tuple[list[int], ImageFeatures]]:
        """(indices, features) for each batch of indices, without the images that cannot be read; may be empty.

        epoch: the training epoch, which determines the augmentation, if any; None for evaluation, without augmentation.
        Each batch is encoded when it is requested, with the encoder's current weights.
        """
        ...


class OnTheFlyFeatures:
    """Decodes and encodes the images in every epoch, with gradients unless the caller has disabled them."""

    def __init__(
        self,
        dataset: CaptionDataset,
        encoder: Encoder | FrozenPart,
        data: DataConfig,
        device: torch.device,
        with_grid: bool,
        augmentation: Augmentation | None = None,
    ) -> None:
        self.paths = dataset.paths
        self.encoder, self.data, self.device, self.with_grid = encoder, data, device, with_grid
        self.augmentation = augmentation
        self.bad: dict[int, str] = {}
        self.origin = f"pixels{_describe(augmentation)}"
        self.content: str | None = None

    def batches(
        self, batches: Iterable[Sequence[int]], epoch: int | None = None
    ) -> Iterator[tuple[list[int], ImageFeatures]]:
        """See FeatureSource."""
        view_of = full_view
        if self.augmentation is not None and epoch is not None:
            view_of = partial(self.augmentation.view, epoch)
        for loaded in load_image_batches(self.paths, batches, self.encoder.transform, self.data, view_of):
            self.bad |= loaded.bad
            features = self._encode(loaded.images) if loaded.indices else self._no_features()
            yield loaded.indices, features if self.with_grid else ImageFeatures(features.vector)

    def _encode(self, images: Tensor) -> ImageFeatures:
        features: ImageFeatures = self.encoder(images.to(self.device))
        return features

    def _no_features(self) -> ImageFeatures:
        rows, columns = self.encoder.grid_size
        grid = torch.empty(0, rows * columns, self.encoder.feature_dim, device=self.device)
        return ImageFeatures(grid.mean(1), grid)


class PartiallyCachedFeatures:
    """Reads the output of the encoder's frozen blocks from the cache and computes the trainable blocks, with gradients.

    Fine-tuning then costs only the trainable blocks: a third of the encoder for EfficientNet-Lite0 from features.6 on.
    """

    def __init__(self, encoder: Encoder, part: FrozenPart, cached: CachedFeatures) -> None:
        self.encoder, self.part, self.cached = encoder, part, cached
        self.bad, self.content = cached.bad, cached.content
        self.origin = f"{cached.origin} as far as the encoder is frozen"

    def batches(
        self, batches: Iterable[Sequence[int]], epoch: int | None = None
    ) -> Iterator[tuple[list[int], ImageFeatures]]:
        """See FeatureSource."""
        rows, _ = self.part.grid_size
        for indices, features in self.cached.batches(batches, epoch):
            assert features.grid is not None  # `open_features` requests grids
            yield indices, self.encoder.forward_trainable_part(features.grid, rows)


class CachedFeatures:
    """Features from the cache. The constructor computes and stores those that are missing.

    flip_augmentation: an augmentation that flips images horizontally and does nothing else.
    """

    def __init__(
        self,
        dataset: CaptionDataset,
        encoder: Encoder | FrozenPart,
        data: DataConfig,
        cache: CacheConfig,
        device: torch.device,
        with_grid: bool,
        flip_augmentation: Augmentation | None = None,
    ) -> None:
        self.device, self.flip_augmentation = device, flip_augmentation
        self.cached = cached_features(
            dataset,
            encoder,
            with_grid=with_grid,
            cache=cache,
            data=data,
            device=device,
            flipped=flip_augmentation is not None,
        )
        self.bad = self.cached.bad
        self.content: str | None = self.cached.content
        self.origin = f"the cache{_describe(flip_augmentation)}"

    def batches(
        self, batches: Iterable[Sequence[int]], epoch: int | None = None
    ) -> Iterator[tuple[list[int], ImageFeatures]]:
        """See FeatureSource."""
        for batch in batches:
            indices = [index for index in batch if index not in self.bad]
            features = self.cached.get(indices, self._flipped_indices(indices, epoch))
            grid = None if features.grid is None else features.grid.to(self.device)
            yield indices, ImageFeatures(features.vector.to(self.device), grid)

    def _flipped_indices(self, indices: Sequence[int], epoch: int | None) -> set[int]:
        if self.flip_augmentation is None or epoch is None:
            return set()
        return {index for index in indices if self.flip_augmentation.view(epoch, index).flipped}


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
    """The features of `dataset`: from the cache if it is enabled and images are not augmented, else from the encoder.

    With `data.features` they are those made elsewhere, for an encoder that reads no images.

    If the encoder is partly frozen, the output of its frozen blocks is read from the cache.
    augmentation: the training's; None for evaluation. With `cache.flips` it also flips half of the images, which
    the cache supports.
    """
    if data.features is not None or not encoder.encodes_images:
        return precomputed_features(dataset, encoder, with_grid=with_grid, data=data, device=device)
    if data.stretch not in ("none", encoder.transform.stretch):
        raise ConfigError(
            f"data.stretch={data.stretch} cannot be changed after training: this model was trained with "
            f"data.stretch={encoder.transform.stretch}, which its checkpoint stores. Leave it out."
        )
    if has_views(dataset):
        open_single = partial(
            open_features,
            encoder=encoder,
            with_grid=with_grid,
            data=data,
            cache=cache,
            device=device,
            augmentation=augmentation,
        )
        return ViewFeatures(dataset, open_single)
    frozen = not any(parameter.requires_grad for parameter in encoder.parameters())
    augmented = augmentation is not None and augmentation.config.active
    if augmentation is not None and cache.flips and not augmentation.config.flip:
        augmentation = replace(augmentation, config=replace(augmentation.config, flip=FLIP_PROBABILITY))
    if augmentation is not None and not augmentation.config.active:
        augmentation = None
    if cache.enabled and not augmented:
        if frozen:
            return CachedFeatures(dataset, encoder, data, cache, device, with_grid, augmentation)
        part = encoder.frozen_part()
        if part is not None:
            part = part.to(device)
            cached = CachedFeatures(dataset, part, data, cache, device, True, augmentation)
            return PartiallyCachedFeatures(encoder, part, cached)
    return OnTheFlyFeatures(dataset, encoder, data, device, with_grid, augmentation)


class JoinedFeatures:
    """The features of one data set from several encoders: `ImageFeatures.others`."""

    def __init__(self, sources: Sequence[FeatureSource]) -> None:
        self.sources = sources
        self.origin = "; ".join(source.origin for source in sources)
        contents = [source.content for source in sources]
        self.content = None if None in contents else "; ".join(map(str, contents))
        self.bad = {index: why for source in sources for index, why in source.bad.items()}

    def batches(
        self, batches: Iterable[Sequence[int]], epoch: int | None = None
    ) -> Iterator[tuple[list[int], ImageFeatures]]:
        """See FeatureSource. An image that one of the sources cannot read is left out."""
        requested = [list(batch) for batch in batches]
        for found in zip(*(source.batches(requested, epoch) for source in self.sources), strict=True):
            for source in self.sources:
                self.bad |= source.bad
            indices = [index for index in found[0][0] if all(index in of_source for of_source, _ in found)]
            first, *others = [_select(of_source, features, indices) for of_source, features in found]
            yield indices, first._replace(others=tuple(others))


def _select(indices: Sequence[int], features: ImageFeatures, wanted: Sequence[int]) -> ImageFeatures:
    """The features of the images `wanted`, of features of the images `indices`."""
    if list(indices) == list(wanted):
        return features
    rows = torch.tensor([indices.index(index) for index in wanted], dtype=torch.int64, device=features.vector.device)
    return features.images(lambda tensor: tensor.index_select(0, rows))


def open_model_features(
    dataset: CaptionDataset, model: CaptioningModel, *, data: DataConfig, cache: CacheConfig, device: torch.device
) -> FeatureSource:
    """The features of `dataset` that a trained model reads; of an ensemble, from all its encoders."""
    sources = [
        open_features(dataset, encoder, with_grid=model.needs_grid_of(index), data=data, cache=cache, device=device)
        for index, encoder in enumerate(model.encoders)
    ]
    return sources[0] if len(sources) == 1 else JoinedFeatures(sources)


def precomputed_features(
    dataset: CaptionDataset, encoder: Encoder, *, with_grid: bool, data: DataConfig, device: torch.device
) -> PrecomputedFeatures:
    """The features at `data.features`. ConfigError or DataError where they are not those that the model reads."""
    if data.features is None:
        raise ConfigError(
            "This model was trained on features made elsewhere and has no encoder: give those of this data set, "
            "data.features=DIR."
        )
    if encoder.encodes_images:
        raise ConfigError(
            f"data.features={data.features} cannot be used: this model has the encoder {encoder.name} and reads "
            "images. Leave data.features out."
        )
    features = PrecomputedFeatures(dataset, data, device, with_grid)
    if features.summary.feature_dim != encoder.feature_dim:
        raise DataError(
            f"data.features={data.features} has {features.summary.feature_dim} values per region in {dataset.split}, "
            f"but the model was made for {encoder.feature_dim}: are they features of another network?"
        )
    return features


def _describe(augmentation: Augmentation | None) -> str:
    """The augmentation in words, in parentheses; "" for none."""
    if augmentation is None:
        return ""
    config = augmentation.config
    parts = []
    if config.scale != (1.0, 1.0) or config.ratio != (1.0, 1.0):
        parts.append(f"random resized crop of {config.scale[0]:.0%} to {config.scale[1]:.0%} of the area")
    if config.flip:
        parts.append(f"{config.flip:.0%} flipped")
    return f" ({', '.join(parts)}, new in each epoch)"
