"""Augmentation of the training images."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from captioner.config.checks import at_least, within
from captioner.errors import ConfigError


@dataclass
class AugmentConfig:
    """Augmentation of the training images, sampled anew in each epoch; by default none.

    A random resized crop replaces the whole image, both as evaluation prepares it (see TransformConfig.resize): with a
    scale of 1 and a ratio of 1 it is the image of evaluation.
    """

    scale: tuple[float, float] = (1.0, 1.0)  # area of the random resized crop, as a share of the image: from, to
    ratio: tuple[float, float] = (1.0, 1.0)  # aspect ratio of the crop, relative to that of the image: from, to
    flip: float = 0.0  # share of images that are mirrored left to right
    after: int = 0  # epochs without augmentation (from the cache) before augmentation starts

    def __post_init__(self) -> None:
        low, high = self.scale
        if not 0.01 <= low <= high <= 1:
            raise ConfigError(
                f"augment.scale={list(self.scale)}: expected two numbers from 0.01 to 1, the smaller first."
            )
        low, high = self.ratio
        if not 0 < low <= high < math.inf:
            raise ConfigError(f"augment.ratio={list(self.ratio)}: expected two numbers above 0, the smaller first.")
        within("augment.flip", self.flip, 0.0, 1.0)
        at_least("augment.after", self.after, 0)
        if self.after and not self.active:
            raise ConfigError(
                f"augment.after={self.after} sets when augmentation starts, but there is none: set "
                "augment.scale, augment.ratio or augment.flip, or choose augment=standard."
            )

    @property
    def active(self) -> bool:
        """Are images augmented in any epoch?"""
        return replace(self, after=0) != AugmentConfig()
