"""How the pictures of a training are varied."""

from __future__ import annotations

import math
from dataclasses import dataclass

from captioner.config.checks import within
from captioner.errors import ConfigError


@dataclass
class AugmentConfig:
    """How the pictures of a training are varied, anew in each epoch; by default not at all.

    A box of the picture is shown in place of the whole, both as seen by evaluation (see TransformConfig.resize): with
    a scale of 1 and a ratio of 1 it is what evaluation shows.
    """

    scale: tuple[float, float] = (1.0, 1.0)  # the box's share of the area, from … to
    ratio: tuple[float, float] = (1.0, 1.0)  # its width / height, from … to, relative to the whole's
    flip: float = 0.0  # share of pictures that are mirrored left to right

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

    @property
    def active(self) -> bool:
        """Is anything varied?"""
        return self != AugmentConfig()
