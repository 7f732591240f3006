"""Which part of an image a training sees in an epoch: a function of (seed, epoch, image), whoever computes it.

So a resumed training sees what an uninterrupted one sees, with any number of worker processes or machines.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from captioner.config import AugmentConfig
from captioner.data.batches import mix_seeds
from captioner.data.images.transforms import View

_PURPOSE = 1  # so that these draws are not those of an image's captions, which have the same seed, epoch and index


@dataclass(frozen=True)
class Augmentation:
    """The settings, and the seed of the run."""

    config: AugmentConfig
    seed: int

    def view(self, epoch: int, index: int) -> View:
        """What the training sees of image `index` in this epoch.

        A box as in Szegedy et al. 2015 (section 6): its area uniform in `scale`, the logarithm of its ratio uniform
        in `ratio`, its place uniform in the image. A ratio with which the box would not fit is brought to the
        nearest with which it does.
        """
        generator = torch.Generator().manual_seed(mix_seeds(self.seed, epoch, index, _PURPOSE))
        mirror, area, shape, left, top = torch.rand(5, generator=generator, dtype=torch.float64).tolist()
        area = _between(self.config.scale, area)
        narrowest, widest = self.config.ratio
        ratio = math.exp(_between((math.log(narrowest), math.log(widest)), shape))
        ratio = min(max(ratio, area), 1 / area)
        width, height = min(math.sqrt(area * ratio), 1.0), min(math.sqrt(area / ratio), 1.0)
        return View((1 - width) * left, (1 - height) * top, width, height, flipped=mirror < self.config.flip)


def _between(limits: tuple[float, float], share: float) -> float:
    low, high = limits
    return low + (high - low) * share
