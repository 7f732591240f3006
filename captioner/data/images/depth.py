"""Images with more than 8 bits a channel, and images that use a part of their range: to 8 bits, in strips of rows.

Medical and satellite images often hold 12 bits in 16: scaled by their format's white they are nearly black. With
`data.stretch=percentile` the values from the 2nd to the 98th percentile of an image are spread over all of 0 to 255.
Strips keep memory small: an image of 64 million pixels would otherwise take gigabytes of floats.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from PIL import Image

PERCENTILES = (2.0, 98.0)  # the default of GIS programs for satellite images; values of the image, so not interpolated
SAMPLE = 1 << 20  # values from which percentiles are computed, evenly spaced; all of them in an image of that size
STRIP = 1 << 20  # pixels converted at a time

Strips = Callable[[], Iterator[np.ndarray]]
"""A function that gives an image's values again and again: (rows, width) or (rows, width, channels), from the top."""


def is_deep_gray(image: Image.Image) -> bool:
    """Whether PIL holds the image as gray values of more than 8 bits: integers or floats."""
    return image.mode.startswith("I") or image.mode == "F"


def deep_color_mode(image: Image.Image) -> str | None:
    """The 16-bit format in which a color image is stored, such as "RGB;16B"; None for others. Call before `load`.

    PIL decodes such images to the upper 8 bits of each value.
    """
    for tile in getattr(image, "tile", ()):
        arguments = tile[3]
        mode = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
        if isinstance(mode, str) and ";16" in mode and image.mode in ("RGB", "RGBX"):
            return mode
    return None


def with_lower_bytes(image: Image.Image) -> None:
    """Make an image that is not loaded, of a `deep_color_mode`, decode to the lower 8 bits of each value.

    PIL takes the byte that comes first in its format, so the format of the other byte order gives the other byte.
    """
    swapped = {"B": "L", "L": "B", "N": "B" if np.little_endian else "L"}
    tiles = []
    for name, extents, offset, arguments in image.tile:  # type: ignore[attr-defined]
        first = arguments[0] if isinstance(arguments, tuple) else arguments
        changed = first[:-1] + swapped[first[-1:]]
        tiles.append((name, extents, offset, (changed, *arguments[1:]) if isinstance(arguments, tuple) else changed))
    image.tile = tiles  # type: ignore[attr-defined]


def gray_to_8_bits(image: Image.Image, stretch: str = "none") -> Image.Image:
    """A gray image with more than 8 bits → one of mode L.

    With stretch="none" white is 65535 for 16-bit images and for 32-bit integers up to 65535, 1 for floats up to 1, 255
    for floats up to 255. Other ranges have no standard meaning: the minimum becomes black, the maximum white.
    """

    def strips() -> Iterator[np.ndarray]:
        for values in strips_of(image):
            yield np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)

    whites = (1.0, 255.0) if image.mode == "F" else (65535.0,)
    return _to_8_bits(strips, image.size, stretch, whites)


def color_to_8_bits(upper: Image.Image, lower: Image.Image) -> Image.Image:
    """A 16-bit RGB image, as two images of its upper and lower bytes → 8 bits, stretched to its percentiles."""

    def strips() -> Iterator[np.ndarray]:
        for high, low in zip(strips_of(upper), strips_of(lower), strict=True):
            yield high.astype(np.float64) * 256 + low

    return _to_8_bits(strips, upper.size, "percentile", (65535.0,))


def stretch_8_bits(image: Image.Image) -> Image.Image:
    """An RGB image → the same, stretched to its percentiles."""
    return _to_8_bits(lambda: strips_of(image), image.size, "percentile", (255.0,))


def strips_of(image: Image.Image) -> Iterator[np.ndarray]:
    """The values of an image from the top, a few rows at a time."""
    rows = max(1, STRIP // image.width)
    for top in range(0, image.height, rows):
        yield np.asarray(image.crop((0, top, image.width, min(top + rows, image.height))))


def _to_8_bits(strips: Strips, size: tuple[int, int], stretch: str, whites: Sequence[float]) -> Image.Image:
    """The values, scaled so that one of `whites`, the maximum, or with a stretch the upper percentile, is 255."""
    black, white = _percentile_range(strips, size) if stretch == "percentile" else (0.0, 0.0)
    if black == white:
        black, white = _standard_range(strips, whites)
    scaled: np.ndarray | None = None
    top = 0
    for values in strips():
        if scaled is None:
            scaled = np.empty((size[1], *values.shape[1:]), np.uint8)
        below = values - black if black else values
        fractions = below * (255.0 / (white - black)) if white > black else np.zeros_like(values)
        scaled[top : top + len(values)] = np.round(fractions).clip(0, 255)
        top += len(values)
    assert scaled is not None  # no image is empty
    return Image.fromarray(scaled)


def _standard_range(strips: Strips, whites: Sequence[float]) -> tuple[float, float]:
    """(value of black, value of white): 0 and the first of `whites` that no value exceeds, or minimum and maximum."""
    extremes = [(float(values.min()), float(values.max())) for values in strips()]
    low, high = min(low for low, _ in extremes), max(high for _, high in extremes)
    white = next((white for white in whites if low >= 0 and high <= white), None)
    return (low, high) if white is None else (0.0, white)


def _percentile_range(strips: Strips, size: tuple[int, int]) -> tuple[float, float]:
    """The two percentiles of the image's values, over all its channels; its extremes where they are equal.

    As both are values of the image, a stretched image that is stretched again does not change.
    """
    step = math.ceil(math.sqrt(size[0] * size[1] / SAMPLE))
    sample, top = [], 0
    low, high = math.inf, -math.inf
    for values in strips():
        low, high = min(low, float(values.min())), max(high, float(values.max()))
        sample.append(values[-top % step :: step, ::step].ravel())
        top += len(values)
    black, white = map(float, np.percentile(np.concatenate(sample), PERCENTILES, method="inverted_cdf"))
    return (black, white) if black < white else (low, high)
