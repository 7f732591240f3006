"""Features made elsewhere as a source of batches for training and evaluation (`data.features`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Sized

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from captioner.config import DataConfig
from captioner.data.dataset import CaptionDataset, CaptionedImage
from captioner.data.features.precomputed.check import FeatureSummary, check_features
from captioner.data.features.precomputed.match import Match, match_features, missing_error
from captioner.data.features.precomputed.region_features import FeatureStore, RegionFeatures
from captioner.data.features.precomputed.stores import open_store
from captioner.data.images.decode import image_size
from captioner.data.workers import ignore_signals, start_workers
from captioner.errors import DataError, ImageError
from captioner.nn.types import ImageFeatures, join_features


class PrecomputedFeatures:
    """Reads the features of each batch, in `data.num_workers` processes, and pads them to its largest image.

    The constructor finds and checks the features of all images of the data set. See `FeatureSource` for the rest.
    """

    def __init__(self, dataset: CaptionDataset, data: DataConfig, device: torch.device, with_grid: bool) -> None:
        self.dataset, self.device, self.with_grid = dataset, device, with_grid
        self.workers = data.num_workers
        self.store, self.match, self.summary = checked_features(dataset, data)
        self.bad = {
            index: f"{self.store} has no features of {dataset.images[index].image_id}." for index in self.match.missing
        }
        self.origin = f"{data.features} ({self.summary})"
        self.content: str | None = str(self.summary)

    def batches(
        self, batches: Iterable[Sequence[int]], epoch: int | None = None
    ) -> Iterator[tuple[list[int], ImageFeatures]]:
        """See FeatureSource."""
        workers = min(self.workers, len(batches)) if isinstance(batches, Sized) else self.workers
        if workers:
            self.store.close()
        loader = DataLoader(
            _Regions(self.store, self.match.keys),
            batch_sampler=map(list, batches),
            num_workers=workers,
            collate_fn=_padded,
            worker_init_fn=ignore_signals,
            generator=torch.Generator(),  # starting worker processes does not change the training's random state
        )
        for indices, features, failure in start_workers(loader):
            if failure:
                raise DataError(failure)
            features = self._empty() if features is None else features.images(self._to_device)
            yield indices, features if self.with_grid else ImageFeatures(features.vector)

    def _to_device(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device)

    def _empty(self) -> ImageFeatures:
        grid = torch.empty(0, 1, self.summary.feature_dim, device=self.device)
        return ImageFeatures(grid.mean(1), grid)

    def regions(self, index: int) -> RegionFeatures:
        """The features of one image as they are stored; `index` is not one of `bad`."""
        return self.store.read(self.match.keys[index])

    def boxes(self, index: int) -> NDArray[np.float32] | None:
        """(N, 4) boxes of an image's regions as fractions of its width and height; None where that is not known."""
        return relative_boxes(self.regions(index), self.dataset.images[index])


def checked_features(dataset: CaptionDataset, data: DataConfig) -> tuple[FeatureStore, Match, FeatureSummary]:
    """The features at `data.features`, the key of each image, and what the check found.

    DataError for features that are missing (unless `data.on_bad_image=skip`) or cannot be used.
    """
    store = open_store(str(data.features))
    match = match_features(dataset, store)
    if match.missing and data.on_bad_image == "error":
        raise missing_error(dataset, store, match)
    return store, match, check_features(dataset, store, match)


def relative_boxes(regions: RegionFeatures, image: CaptionedImage) -> NDArray[np.float32] | None:
    """(N, 4) boxes as fractions of the image's width and height; None if there are none, or its size is not known."""
    if regions.boxes is None:
        return None
    size = regions.size
    if size is None and float(regions.boxes.max(initial=0)) <= 1:
        return regions.boxes
    if size is None:
        try:
            size = image_size(image.path)
        except ImageError:
            return None
    scale = np.array([size[0], size[1], size[0], size[1]], np.float32)
    fractions: NDArray[np.float32] = np.clip(regions.boxes / scale, 0, 1)
    return fractions


class _Regions(Dataset[tuple[int, Tensor | str]]):
    """Index → features (N, D), or the message of an error, which would lose its type on the way from a worker."""

    def __init__(self, store: FeatureStore, keys: dict[int, str]) -> None:
        self.store, self.keys = store, keys

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> tuple[int, Tensor | str]:
        if index not in self.keys:
            return index, ""
        try:
            return index, torch.from_numpy(self.store.read(self.keys[index]).features)
        except (DataError, OSError) as error:
            return index, str(error)


def _padded(items: list[tuple[int, Tensor | str]]) -> tuple[list[int], ImageFeatures | None, str]:
    """(indices with features, their features or None without any, the message of an error or "")."""
    good = [(index, item) for index, item in items if isinstance(item, Tensor)]
    failure = next((item for _, item in items if isinstance(item, str) and item), "")
    parts = [ImageFeatures(item.mean(0, keepdim=True), item.unsqueeze(0)) for _, item in good]
    return [index for index, _ in good], join_features(parts) if parts else None, failure
