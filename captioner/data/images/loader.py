"""Loads batches of images as tensors, in worker processes, in a fixed order, and reports images that cannot be read."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from captioner.config import DataConfig, TransformConfig
from captioner.data.dataset import ImagePath
from captioner.data.image_views import ImageViews
from captioner.data.images.decode import load_image
from captioner.data.images.transforms import FULL_VIEW, View, image_to_tensor
from captioner.data.workers import ignore_signals, start_workers
from captioner.errors import DataError, ImageError


@dataclass(frozen=True)
class LoadedImageBatch:
    """The images of a batch that could be read, in order, and why the others could not."""

    indices: list[int]  # of `images` in the data set
    images: Tensor  # (len(indices), 3, S, S)
    bad: dict[int, str]  # index → reason
    failure: str = ""  # why images could not be read that are not damaged, such as a lost connection


class _Failure(NamedTuple):
    """The message of a DataError that is not about the image itself."""

    reason: str


_Item = tuple[int, Tensor | str | _Failure]


class _Images(Dataset[_Item]):
    """Index → tensor, or an error message: an exception would lose its type on the way from a worker process."""

    def __init__(self, paths: Sequence[ImagePath], transform: TransformConfig, view_of: Callable[[int], View]) -> None:
        self.paths, self.transform, self.view_of = paths, transform, view_of

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> _Item:
        view = self.view_of(index)
        at_least = math.ceil(self.transform.size / min(view.width, view.height))  # so that a crop is as sharp
        path = self.paths[index]
        if isinstance(path, ImageViews):
            return index, f"{path} is a sample of {len(path.views)} images, and this command encodes single images."
        try:
            image = load_image(path, at_least, self.transform.stretch)
        except ImageError as error:
            return index, str(error)
        except DataError as error:
            return index, _Failure(str(error))
        return index, image_to_tensor(image, self.transform, view)


def _collate(items: list[_Item]) -> LoadedImageBatch:
    good = [(index, item) for index, item in items if isinstance(item, Tensor)]
    return LoadedImageBatch(
        indices=[index for index, _ in good],
        images=torch.stack([item for _, item in good]) if good else torch.empty(0),
        bad={index: item for index, item in items if isinstance(item, str)},
        failure=next((item.reason for _, item in items if isinstance(item, _Failure)), ""),
    )


def full_view(index: int) -> View:
    """The view of every image without augmentation."""
    return FULL_VIEW


def load_image_batches(
    paths: Sequence[ImagePath],
    batches: Iterable[Sequence[int]],
    transform: TransformConfig,
    data: DataConfig,
    view_of: Callable[[int], View] = full_view,
) -> Iterator[LoadedImageBatch]:
    """The images of each batch of indices into `paths`, in order.

    batches: requested as worker processes (`data.num_workers`) become free, so a few ahead of those returned.
    view_of: index → the part of the image to load; called in the worker processes.

    An image that cannot be read raises ImageError. With `data.on_bad_image=skip` it is left out of its batch and
    reported in `bad`; a batch without any readable image is empty. A server that does not answer is a DataError.
    """
    workers = min(data.num_workers, len(batches)) if isinstance(batches, Sized) else data.num_workers
    loader = DataLoader(
        _Images(paths, transform, view_of),
        batch_sampler=map(list, batches),
        num_workers=workers,
        collate_fn=_collate,
        worker_init_fn=ignore_signals,
        # A separate generator, so that starting worker processes does not change the training's random state.
        generator=torch.Generator(),
    )
    for loaded in start_workers(loader):
        if loaded.failure:
            raise DataError(loaded.failure)
        check_bad_images(loaded.bad, data)
        yield loaded


def check_bad_images(bad: Mapping[int, str], data: DataConfig) -> None:
    """ImageError for the first of `bad` (index → reason), unless `data.on_bad_image=skip`."""
    if bad and data.on_bad_image == "error":
        first = next(iter(bad.values()))
        raise ImageError(f"{first} Repair or remove it, or leave such images out with data.on_bad_image=skip.")
