"""Things to draw, and reading what was drawn."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class SampledCaption:
    text: str
    attention: np.ndarray | None = None

    @property
    def tokens(self) -> list[str]:
        return self.text.split()


def image(width: int = 64, height: int = 48, color: tuple[int, int, int] = (128, 128, 128)) -> Image.Image:
    return Image.new("RGB", (width, height), color)


def attended(text: str, rows: int = 7, columns: int = 7, seed: int = 0) -> SampledCaption:
    weights = np.random.default_rng(seed).dirichlet(np.full(rows * columns, 0.2), len(text.split()))
    return SampledCaption(text, weights.reshape(-1, rows, columns).astype(np.float32))


def read(path: Path) -> np.ndarray:
    """The file's pixels; fails where it is not a whole PNG file."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(float)
