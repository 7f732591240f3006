"""Captions of any number of images: one batch is searched while threads encode the next and decode later files."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from typing import TypeVar

from captioner.data.images.decode import ImageSource
from captioner.data.images.read_ahead import in_background, map_ahead
from captioner.errors import ImageError
from captioner.generated_caption import Caption

LOADING_THREADS = 2  # one core decodes 100 photos a second, and encodes and searches fewer

Loaded = TypeVar("Loaded")
Encoded = TypeVar("Encoded")


def caption_stream(
    images: Iterable[ImageSource],
    load: Callable[[ImageSource], Loaded],
    encode: Callable[[Sequence[Loaded]], Encoded],
    search: Callable[[Encoded, Sequence[ImageSource]], list[Caption]],
    batch_size: int,
) -> Iterator[Caption | ImageError]:
    """The caption of each image in order; in place of that of an image that cannot be read comes its ImageError.

    load: an image → its pixels; encode: those of a batch → features; search: these, and the images → captions.
    """

    def try_to_load(image: ImageSource) -> tuple[ImageSource, Loaded | ImageError]:
        try:
            return image, load(image)
        except ImageError as error:
            return image, error

    loaded = map_ahead(try_to_load, images, threads=LOADING_THREADS, ahead=2 * batch_size)
    with closing(in_background(_encode_batches(loaded, encode, batch_size))) as batches:
        for batch, encoded in batches:
            captions: Iterator[Caption] = iter(())
            if encoded is not None:
                read = [image for image, pixels in batch if not isinstance(pixels, ImageError)]
                captions = iter(search(encoded, read))
            for _, pixels in batch:
                yield pixels if isinstance(pixels, ImageError) else next(captions)


def _encode_batches(
    loaded: Generator[tuple[ImageSource, Loaded | ImageError], None, None],
    encode: Callable[[Sequence[Loaded]], Encoded],
    batch_size: int,
) -> Generator[tuple[list[tuple[ImageSource, Loaded | ImageError]], Encoded | None], None, None]:
    """The images in batches, and the features of those that could be read, None for none."""
    with closing(loaded):
        while batch := list(islice(loaded, batch_size)):
            readable = [pixels for _, pixels in batch if not isinstance(pixels, ImageError)]
            yield batch, encode(readable) if readable else None
