"""Augmentation: which part of an image the training sees in an epoch.

It is a function of (seed, epoch, image), so a resumed training sees the same images as an uninterrupted one, with any
number of worker processes or machines.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from captioner.config import AugmentConfig
from captioner.data.batches import mix_seeds
from captioner.data.images.transforms import View

_PURPOSE = 1  # a random stream other than that of `choose_captions`, which has the same seed, epoch and index


@dataclass(frozen=True)
class Augmentation:
    """The augmentation settings and the seed of a training."""

    config: AugmentConfig
    seed: int

    def view(self, epoch: int, index: int) -> View:
        """The random resized crop of image `index` in this epoch, possibly flipped.

        As in Szegedy et al. 2015 (section 6), its area is uniform in `scale`, the logarithm of its aspect ratio is
        uniform in `ratio`, and its position is uniform in the image. If the crop would not fit into the image, the
        nearest aspect ratio with which it fits is used.
        """
        generator = torch.Generator().manual_seed(mix_seeds(self.seed, epoch, index, _PURPOSE))
        flip, area, shape, left, top = torch.rand(5, generator=generator, dtype=torch.float64).tolist()
        area = _interpolate(self.config.scale, area)
        narrowest, widest = self.config.ratio
        ratio = math.exp(_interpolate((math.log(narrowest), math.log(widest)), shape))
        ratio = min(max(ratio, area), 1 / area)
        width, height = min(math.sqrt(area * ratio), 1.0), min(math.sqrt(area / ratio), 1.0)
        return View((1 - width) * left, (1 - height) * top, width, height, flipped=flip < self.config.flip)


def _interpolate(limits: tuple[float, float], fraction: float) -> float:
    low, high = limits
    return low + (high - low) * fraction
