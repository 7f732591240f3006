"""How the images of a training are varied."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from captioner.config.checks import at_least, within
from captioner.errors import ConfigError


@dataclass
class AugmentConfig:
    """How the images of a training are varied, anew in each epoch; by default not at all.

    A box of the image is shown in place of the whole, both as seen by evaluation (see TransformConfig.resize): with
    a scale of 1 and a ratio of 1 it is what evaluation shows.
    """

    scale: tuple[float, float] = (1.0, 1.0)  # the box's share of the area, from … to
    ratio: tuple[float, float] = (1.0, 1.0)  # its width / height, from … to, relative to the whole's
    flip: float = 0.0  # share of images that are mirrored left to right
    after: int = 0  # epochs that see every image whole, and from the cache, before images are varied

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
                f"augment.after={self.after} says when images are varied, but nothing varies them: set "
                "augment.scale, augment.ratio or augment.flip, or choose augment=standard."
            )

    @property
    def active(self) -> bool:
        """Is anything varied, sooner or later?"""
        return replace(self, after=0) != AugmentConfig()
