"""Captions of any number of images: one batch is searched while threads encode the next and decode later files."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from itertools import islice
from typing import TypeAlias

from captioner.captioning.caption_search import CaptionRequest, CaptionSearch
from captioner.captioning.image_encoding import ImageEncoding, Views
from captioner.data.images.decode import ImageSource
from captioner.data.images.read_ahead import in_background, map_ahead
from captioner.errors import ImageError
from captioner.generated_caption import Caption
from captioner.nn.encoders.class_head import ClassScores
from captioner.nn.types import ImageFeatures

LOADING_THREADS = 2  # one core decodes 100 photos a second, and encodes and searches fewer

_Loaded: TypeAlias = tuple[ImageSource, Views | ImageError]
"""An image and its pixels, or why it cannot be read."""

_Encoded: TypeAlias = tuple[ImageFeatures, ClassScores | None]


def caption_stream(
    images: Iterable[ImageSource],
    encoding: ImageEncoding,
    search: CaptionSearch,
    request: CaptionRequest,
    batch_size: int,
) -> Iterator[Caption | ImageError]:
    """The caption of each image in order; in place of that of an image that cannot be read comes its ImageError."""

    def load(image: ImageSource) -> _Loaded:
        try:
            return image, encoding.load(image)
        except ImageError as error:
            return image, error

    loaded = map_ahead(load, images, threads=LOADING_THREADS, ahead=2 * batch_size)
    batches = _encode_batches(loaded, encoding, batch_size, classify=request.needs_classes)
    with closing(in_background(batches)) as encoded:
        for batch, result in encoded:
            captions: Iterator[Caption] = iter(())
            if result is not None:
                features, scores = result
                read = [image for image, views in batch if not isinstance(views, ImageError)]
                captions = iter(search.captions(features, request, [0] * len(read), read, scores=scores))
            for _, views in batch:
                yield views if isinstance(views, ImageError) else next(captions)


def _encode_batches(
    loaded: Generator[_Loaded, None, None], encoding: ImageEncoding, batch_size: int, *, classify: bool
) -> Generator[tuple[list[_Loaded], _Encoded | None], None, None]:
    """The images in batches, and the features of those that could be read, None for none."""
    with closing(loaded):
        while batch := list(islice(loaded, batch_size)):
            readable = [views for _, views in batch if not isinstance(views, ImageError)]
            yield batch, encoding.encode_loaded(readable, classify=classify) if readable else None
