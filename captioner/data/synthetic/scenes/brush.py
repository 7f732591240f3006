"""The brush with which objects are drawn: shapes in the object's own units, with color, texture and outline.

It draws on a transparent tile several times larger than the object in the image. Scaling the tile down makes smooth
edges, and transparent pixels show the background.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

RGB = tuple[int, int, int]
Point = tuple[float, float]

PAINTS: dict[str, RGB] = {
    "red": (222, 30, 36),
    "orange": (255, 130, 14),
    "yellow": (252, 218, 34),
    "green": (48, 160, 60),
    "blue": (28, 88, 216),
    "purple": (122, 48, 176),
    "pink": (252, 142, 190),
    "brown": (112, 66, 34),
    "black": (44, 42, 46),
    "white": (246, 246, 242),
}

WHITE: RGB = (250, 250, 248)
INK: RGB = (34, 30, 32)
GLASS: RGB = (190, 226, 242)
METAL: RGB = (176, 180, 186)
TYRE: RGB = (48, 48, 52)
WOOD: RGB = (134, 90, 52)
BEAK: RGB = (244, 158, 40)


def mix(first: RGB, second: RGB, share: float) -> RGB:
    """A mixture of two colors with the fraction `share` of `second`."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def brightness(color: RGB) -> float:
    """The luma of a color (ITU-R BT.601), from 0 for black to 255 for white."""
    return 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]


class Brush:
    """Draws one object. Coordinates run from (0, 0) to the kind's (width, height), with y downwards.

    tile: the transparent image to draw on, RGBA or premultiplied (RGBa). scale: pixels of the tile per unit.
    corner: the pixel of the tile at (0, 0).
    flip: the width of the object if it is flipped horizontally, else None.
    """

    def __init__(
        self, tile: Image.Image, scale: float, corner: Point, flip: float | None, color: RGB, texture: str
    ) -> None:
        dark = brightness(color) < 60
        self.color = color
        self.shade = mix(color, (255, 255, 255), 0.12) if dark else mix(color, (0, 0, 0), 0.26)
        self.light = mix(color, (255, 255, 255), 0.28 if dark else 0.38)
        self._tile = tile
        self._draw = ImageDraw.Draw(tile)
        self._scale = scale
        self._corner = corner
        self._flip = flip
        self._edge_width = max(2, round(1.7 * scale))
        self._pattern = _pattern(tile, texture, color) if texture != "plain" else None

    def polygon(self, points: Sequence[Point], fill: RGB | None = None, edge: bool = True) -> None:
        """A polygon. Without `fill` it has the color and texture of the object."""
        self._shape(np.asarray(points, dtype=float), fill, edge)

    def blob(self, points: Sequence[Point], fill: RGB | None = None, edge: bool = True) -> None:
        """A smooth closed shape through the points."""
        self._shape(_smooth(np.asarray(points, dtype=float)), fill, edge)

    def ellipse(
        self,
        x: float,
        y: float,
        across: float,
        down: float,
        fill: RGB | None = None,
        angle: float = 0,
        edge: bool = True,
    ) -> None:
        """An ellipse around (x, y) with the semi-axes `across` and `down`, rotated clockwise by `angle` degrees."""
        turn = math.radians(angle)
        circle = _circle()
        u, v = circle[:, 0] * across, circle[:, 1] * down
        rotated = np.stack(
            [x + u * math.cos(turn) - v * math.sin(turn), y + u * math.sin(turn) + v * math.cos(turn)], 1
        )
        self._shape(rotated, fill, edge)

    def ring(self, x: float, y: float, radius: float, width: float, fill: RGB) -> None:
        """The outline of a circle, `width` units wide."""
        self._line(_circle() * radius + (x, y), width, fill, closed=True)

    def stroke(
        self, points: Sequence[Point], width: float, fill: RGB | None = None, smooth: bool = False, edge: bool = False
    ) -> None:
        """A line with round ends, `width` units wide; with `smooth`, a curve through the points."""
        path = np.asarray(points, dtype=float)
        if smooth:
            path = _smooth(path, closed=False)
        if edge:
            border = 2 * self._edge_width / self._scale
            self._line(path, width + border, _edge(fill or self.color))
        self._line(path, width, fill or self.color)

    def dot(self, x: float, y: float, radius: float, fill: RGB = INK) -> None:
        """A small disc without an outline, such as an eye."""
        self.ellipse(x, y, radius, radius, fill, edge=False)

    def _pixels(self, points: np.ndarray) -> list[Point]:
        across = points[:, 0] if self._flip is None else self._flip - points[:, 0]
        rows = self._corner[1] + points[:, 1] * self._scale
        return list(zip((self._corner[0] + across * self._scale).tolist(), rows.tolist(), strict=True))

    def _shape(self, points: np.ndarray, fill: RGB | None, edge: bool) -> None:
        outline = self._pixels(points)
        if fill is None and self._pattern is not None:
            box = _box_around(outline, self._tile.size)
            mask = Image.new("L", (box[2] - box[0], box[3] - box[1]))
            ImageDraw.Draw(mask).polygon([(x - box[0], y - box[1]) for x, y in outline], fill=255)
            self._tile.paste(self._pattern.crop(box), box, mask)
        else:
            self._draw.polygon(outline, fill=fill or self.color)
        if edge:
            self._draw.line([*outline, outline[0], outline[1]], fill=_edge(fill or self.color), width=self._edge_width)

    def _line(self, path: np.ndarray, width: float, fill: RGB, closed: bool = False) -> None:
        pixels = self._pixels(path)
        if closed:
            pixels = [*pixels, pixels[0], pixels[1]]
        thick = max(1, round(width * self._scale))
        self._draw.line(pixels, fill=fill, width=thick, joint="curve" if thick > 3 else None)
        if not closed and thick > 2:
            radius = thick / 2 - 0.5
            for x, y in (pixels[0], pixels[-1]):
                self._draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)


def _edge(fill: RGB) -> RGB:
    """The color of the outline: darker than the fill, or lighter if the fill is nearly black."""
    if brightness(fill) < 60:
        return mix(fill, (255, 255, 255), 0.22)
    return mix(fill, (20, 16, 24), 0.52)


@lru_cache(maxsize=1)
def _circle() -> np.ndarray:
    """(32, 2): points of the unit circle."""
    angles = np.linspace(0, 2 * math.pi, 32, endpoint=False)
    return np.stack([np.cos(angles), np.sin(angles)], 1)


@lru_cache(maxsize=4)
def _bend(steps: int) -> np.ndarray:
    """(steps, 4): weights of four neighboring points along a Catmull-Rom segment from the second to the third."""
    t = np.linspace(0, 1, steps, endpoint=False)
    return 0.5 * np.stack([-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, -(t**2) + t**3], 1)


def _smooth(points: np.ndarray, closed: bool = True, steps: int = 6) -> np.ndarray:
    """A Catmull-Rom curve through the points, closed or from the first to the last."""
    if closed:
        count = len(points)
        neighbors = points[(np.arange(count)[:, None] + (-1, 0, 1, 2)) % count]
    else:
        padded = np.concatenate([points[:1], points, points[-1:]])
        neighbors = np.stack([padded[shift : shift + len(points) - 1] for shift in range(4)], 1)
    curve = np.einsum("sk,nkd->nsd", _bend(steps), neighbors).reshape(-1, 2)
    return curve if closed else np.concatenate([curve, points[-1:]])


def _box_around(outline: Sequence[Point], extent: tuple[int, int]) -> tuple[int, int, int, int]:
    """(left, top, right, bottom): the part of an image of this extent in which a polygon is drawn."""
    columns, rows = zip(*outline, strict=True)
    left, top = max(0, math.floor(min(columns)) - 1), max(0, math.floor(min(rows)) - 1)
    return left, top, min(extent[0], math.ceil(max(columns)) + 2), min(extent[1], math.ceil(max(rows)) + 2)


def _pattern(tile: Image.Image, texture: str, color: RGB) -> Image.Image:
    """The surface of a striped or spotted object, as large as the tile and in its mode."""
    pale = brightness(color) > 170
    second = mix(color, INK, 0.4) if pale else mix(color, (255, 255, 255), 0.86)
    surface = Image.new(tile.mode, tile.size, color)
    draw = ImageDraw.Draw(surface)
    width, height = tile.size
    unit = max(tile.size) / 14
    if texture == "striped":
        for start in np.arange(-height, width + height, 2.3 * unit).tolist():
            draw.line(
                [(start, -unit), (start + 0.45 * height, height + unit)], fill=second, width=max(2, round(0.8 * unit))
            )
        return surface
    radius = 0.62 * unit
    for row in range(int(height / (1.9 * unit)) + 2):
        for column in range(int(width / (2.5 * unit)) + 2):
            x, y = (column + 0.5 * (row % 2)) * 2.5 * unit, row * 1.9 * unit
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=second)
    return surface
