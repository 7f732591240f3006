"""Images and captions to plot, and a reader for the PNG files that are written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class ExampleCaption:
    text: str
    attention: np.ndarray | None = None

    @property
    def tokens(self) -> list[str]:
        return self.text.split()


def image(width: int = 64, height: int = 48, color: tuple[int, int, int] = (128, 128, 128)) -> Image.Image:
    return Image.new("RGB", (width, height), color)


def attended_caption(text: str, rows: int = 7, columns: int = 7, seed: int = 0) -> ExampleCaption:
    weights = np.random.default_rng(seed).dirichlet(np.full(rows * columns, 0.2), len(text.split()))
    return ExampleCaption(text, weights.reshape(-1, rows, columns).astype(np.float32))


def read_png(path: Path) -> np.ndarray:
    """The file's pixels (height, width, 3) in [0, 255]; fails unless it is a complete PNG file."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(float)
