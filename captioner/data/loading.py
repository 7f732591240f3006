"""Pictures from disk to tensors, in worker processes, in a fixed order, with every bad one named."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from captioner.config import DataConfig, TransformConfig
from captioner.data.dataset import PicturePath
from captioner.data.pictures import open_picture
from captioner.data.transforms import WHOLE, View, picture_to_tensor
from captioner.errors import PictureError


@dataclass(frozen=True)
class LoadedPictures:
    """Some pictures of a data set: `indices[i]` is the place of `pictures[i]`; `bad` gives index → why not."""

    indices: list[int]
    pictures: Tensor  # (len(indices), 3, S, S)
    bad: dict[int, str]


class _Pictures(Dataset[tuple[int, Tensor | str]]):
    """Index → tensor, or the sentence that says why there is none: an exception would lose its type on the way."""

    def __init__(
        self, paths: Sequence[PicturePath], transform: TransformConfig, view_of: Callable[[int], View]
    ) -> None:
        self.paths, self.transform, self.view_of = paths, transform, view_of

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[int, Tensor | str]:
        view = self.view_of(index)
        at_least = math.ceil(self.transform.size / min(view.width, view.height))  # as fine as the whole would be
        try:
            picture = open_picture(self.paths[index], at_least=at_least)
        except PictureError as error:
            return index, str(error)
        return index, picture_to_tensor(picture, self.transform, view)


def _collate(items: list[tuple[int, Tensor | str]]) -> LoadedPictures:
    good = [(index, item) for index, item in items if isinstance(item, Tensor)]
    return LoadedPictures(
        indices=[index for index, _ in good],
        pictures=torch.stack([item for _, item in good]) if good else torch.empty(0),
        bad={index: item for index, item in items if isinstance(item, str)},
    )


def whole_picture(index: int) -> View:
    """What evaluation sees of any picture."""
    return WHOLE


def load_pictures(
    paths: Sequence[PicturePath],
    batches: Iterable[Sequence[int]],
    transform: TransformConfig,
    data: DataConfig,
    view_of: Callable[[int], View] = whole_picture,
) -> Iterator[LoadedPictures]:
    """The pictures of each batch of indices into `paths`, batch by batch, in order.

    `batches` are asked for as worker processes (`data.num_workers`) become free: some ahead of those given out.
    `view_of`: index → the part of the picture that is wanted; it is called in the worker processes.

    A picture that cannot be read raises PictureError, or, with `data.on_bad_image=skip`, is left out
    of its batch and named in `bad`; a batch of bad pictures only has no rows.
    """
    workers = min(data.num_workers, len(batches)) if isinstance(batches, Sized) else data.num_workers
    loader = DataLoader(
        _Pictures(paths, transform, view_of),
        batch_sampler=map(list, batches),
        num_workers=workers,
        collate_fn=_collate,
        # Its own generator: starting workers must not draw from the training's random state.
        generator=torch.Generator(),
    )
    for loaded in loader:
        refuse_bad_pictures(loaded.bad, data)
        yield loaded


def refuse_bad_pictures(bad: Mapping[int, str], data: DataConfig) -> None:
    """PictureError for the first of `bad` (index → why), unless such pictures are to be left out."""
    if bad and data.on_bad_image == "error":
        first = next(iter(bad.values()))
        raise PictureError(f"{first} Repair or remove it, or leave such pictures out with data.on_bad_image=skip.")
