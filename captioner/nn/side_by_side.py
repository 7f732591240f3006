"""The features of samples of several images (views), from the features of the single images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from captioner.nn.types import ImageFeatures, join_features


def side_by_side(features: ImageFeatures, counts: Sequence[int]) -> ImageFeatures:
    """The features of B samples; sample b has the next `counts[b]` images of `features`, at least one.

    grid: (B, V·P, D), the regions of a sample's images one image after the other, padded (see `ImageFeatures.mask`)
    where samples have different numbers of images. vector: (B, D), the mean of the vectors of the images. So D does not
    depend on the number of views, unlike the concatenation of the vectors that R2Gen (Chen et al., EMNLP 2020) uses.
    """
    if not counts:
        return features
    samples = []
    classes = None
    if features.classes is not None:
        of_samples = torch.split(features.classes, list(counts))
        classes = torch.stack([of_views.mean(0) for of_views in of_samples])
    vectors = torch.split(features.vector, list(counts))
    grids = [None] * len(counts) if features.grid is None else torch.split(features.grid, list(counts))
    for vector, grid in zip(vectors, grids, strict=True):
        regions = None if grid is None else grid.reshape(1, -1, grid.shape[-1])
        samples.append(ImageFeatures(vector.mean(0, keepdim=True), regions))
    return join_features(samples)._replace(classes=classes)


def attention_maps(
    weights: Float[Tensor, "T Q"], grid_size: tuple[int, int], views: int
) -> Float[Tensor, "T rows columns"]:
    """Attention weights as maps (T, rows, views · columns): the maps of a sample's images side by side.

    The Q weights are those of the regions of `views` grids, one after the other; more of them belong to padding.
    """
    rows, columns = grid_size
    steps = len(weights)
    maps = weights[:, : views * rows * columns].reshape(steps, views, rows, columns)
    return maps.transpose(1, 2).reshape(steps, rows, views * columns)
