"""Features of samples of several images, such as the two views of a chest X-ray, from any source of features.

The source sees the single images. So the feature cache, augmentation and fine-tuning work as for other data sets, and a
sample's features are put together from those of its images (see `captioner.nn.side_by_side`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING

import torch

from captioner.data.dataset import CaptionDataset
from captioner.data.image_views import ImageViews, views_of
from captioner.nn.side_by_side import side_by_side
from captioner.nn.types import ImageFeatures

if TYPE_CHECKING:
    from captioner.data.features.sources import FeatureSource


def has_views(dataset: CaptionDataset) -> bool:
    """Whether a sample of the data set has several images."""
    # Other sequences create their images on access, which takes minutes for millions, and have no views.
    return isinstance(dataset.images, tuple) and any(isinstance(image.path, ImageViews) for image in dataset.images)


def single_images(dataset: CaptionDataset) -> CaptionDataset:
    """The data set with one entry per image: a sample of several images becomes several."""
    if not has_views(dataset):
        return dataset
    images = (replace(image, path=view) for image in dataset for view in views_of(image.path))
    return replace(dataset, images=tuple(images))


class ViewFeatures:
    """A `FeatureSource` of samples; `open_source` opens the features of the single images."""

    def __init__(self, dataset: CaptionDataset, open_source: Callable[[CaptionDataset], FeatureSource]) -> None:
        counts = [len(views_of(image.path)) for image in dataset]
        self._views = [range(end - count, end) for count, end in zip(counts, accumulate(counts), strict=True)]
        self._sample_of = [sample for sample, count in enumerate(counts) for _ in range(count)]
        self._source = open_source(single_images(dataset))
        self.origin, self.content = self._source.origin, self._source.content
        self.bad: dict[int, str] = {}
        self._update_bad()

    def batches(
        self, batches: Iterable[Sequence[int]], epoch: int | None = None
    ) -> Iterator[tuple[list[int], ImageFeatures]]:
        """See FeatureSource. A sample with an image that cannot be read is left out as a whole."""
        requested: deque[list[int]] = deque()  # the source may request batches ahead of those it has returned

        def flat() -> Iterator[list[int]]:
            for batch in batches:
                requested.append(list(batch))
                yield [view for sample in batch for view in self._views[sample]]

        for found, features in self._source.batches(flat(), epoch):
            self._update_bad()
            samples = [sample for sample in requested.popleft() if sample not in self.bad]
            positions = {view: position for position, view in enumerate(found)}
            order = [positions[view] for sample in samples for view in self._views[sample]]
            rows = torch.tensor(order, dtype=torch.int64, device=features.vector.device)
            selected = features.images(partial(torch.index_select, dim=0, index=rows))
            yield samples, side_by_side(selected, [len(self._views[sample]) for sample in samples])

    def _update_bad(self) -> None:
        for view, reason in self._source.bad.items():
            self.bad.setdefault(self._sample_of[view], reason)
