"""Retrieval with any captioning model: images and captions are compared by log p(caption | image).

For one caption, this ranks images. For one image it would rank short and common captions first, whatever it shows, so
captions are ranked by log p(caption | image) − log p(caption | mean image): how much more probable this image makes
them than the mean of the features of all searched images does. The subtrahend does not change the ranks of images.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from captioner.data.batches import sequential_batches
from captioner.data.dataset import CaptionDataset
from captioner.data.features.sources import FeatureSource
from captioner.decode.sampling import image_seeds
from captioner.decode.teacher_forcing import token_log_probs
from captioner.errors import DataError
from captioner.metrics.ngrams import Floats
from captioner.nn.decoders.decoder import Decoder
from captioner.nn.types import ImageFeatures

IMAGES_PER_BATCH = 16  # whose features are in memory together


def likelihood_table(
    decoder: Decoder[Any],
    features: FeatureSource,
    dataset: CaptionDataset,
    captions: Sequence[Sequence[int]],
    vocabulary_size: int,
    *,
    seed: int = 0,
) -> tuple[list[int], Floats]:
    """The indices of the B images that can be read, and log p of every caption for each of them, (N, B), in nats.

    decoder: in eval mode. captions: N captions as token ids. seed: of a decoder that samples where to attend. Besides
    the table, memory does not grow with N or B: the features of an image are computed once, and forgotten.
    """
    indices: list[int] = []
    columns: list[Floats] = []
    batches = sequential_batches(len(dataset), IMAGES_PER_BATCH)
    title = f"{len(captions):,} captions of {dataset.name} {dataset.split} for each image"
    with (
        torch.inference_mode(),
        tqdm(total=len(dataset), desc=title, unit="image", leave=False, disable=not sys.stderr.isatty()) as bar,
    ):
        for read, batch in features.batches(batches):
            seeds = image_seeds(seed, [dataset.images[index].image_id for index in read]).to(batch.vector.device)
            for row in range(len(read)):
                one = batch._replace(seeds=seeds).images(partial(torch.narrow, dim=0, start=row, length=1))
                columns.append(log_probs_of_captions(decoder, one, captions, vocabulary_size))
                bar.update()
            indices += read
    return indices, np.stack(columns, axis=1) if columns else np.zeros((len(captions), 0))


def log_probs_of_captions(
    decoder: Decoder[Any], image: ImageFeatures, captions: Sequence[Sequence[int]], vocabulary_size: int
) -> Floats:
    """(N,) log p of each caption for one image."""
    scored = token_log_probs(decoder, image, [captions], vocabulary_size)
    return np.array([tokens.total for _, _, tokens in scored], dtype=np.float64)


def mean_image(features: FeatureSource, count: int) -> ImageFeatures:
    """The mean of the features of the images 0 … `count` − 1 that can be read, as those of one image.

    A region is the mean over the images that have it. DataError where no image can be read.
    """
    images = 0
    sums: list[Tensor] = []  # of the vectors; of the grids, and the number of images that have each region
    like: ImageFeatures | None = None
    with torch.inference_mode():
        for read, batch in features.batches(sequential_batches(count, IMAGES_PER_BATCH)):
            if not read:
                continue
            images, like = images + len(read), batch
            parts = [batch.vector.double().sum(dim=0)]
            if batch.grid is not None:
                mask = torch.ones(batch.grid.shape[:2], device=batch.grid.device) if batch.mask is None else batch.mask
                mask = mask.double()
                parts += [(batch.grid * mask.unsqueeze(2)).sum(dim=0), mask.sum(dim=0)]
            sums = [total + part for total, part in zip(sums, parts, strict=True)] if sums else parts
    if like is None:
        raise DataError("No image can be read, so there is nothing to search.")
    vector = (sums[0] / images).to(like.vector.dtype).unsqueeze(0)
    if like.grid is None:
        return ImageFeatures(vector)
    grid = sums[1] / sums[2].clamp(min=1).unsqueeze(1)
    return ImageFeatures(vector, grid.to(like.grid.dtype).unsqueeze(0))
