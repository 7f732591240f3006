"""Draws the places: the background of a scene, and clutter that no caption mentions."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from captioner.data.synthetic.scenes.brush import RGB, WOOD, mix
from captioner.data.synthetic.scenes.layout import IMAGE_SIZE

_OVERSAMPLING = 2
_SIDE = IMAGE_SIZE * _OVERSAMPLING


def backdrop(place: str, horizon: float, rng: random.Random) -> Image.Image:
    """An image of the place with its clutter, without objects."""
    canvas = Image.new("RGB", (_SIDE, _SIDE))
    _PLACES[place](canvas, round(horizon * _OVERSAMPLING), rng)
    return canvas.reduce(_OVERSAMPLING)


def _gradient(canvas: Image.Image, top: int, bottom: int, first: RGB, second: RGB) -> None:
    """Fill the rows from `top` to `bottom` with a color gradient from `first` to `second`."""
    column = np.rint(np.linspace(first, second, bottom - top)).astype(np.uint8)
    rows = Image.fromarray(column[:, None]).resize((_SIDE, len(column)), Image.Resampling.NEAREST)
    canvas.paste(rows, (0, top))


def tint(rng: random.Random, color: RGB, spread: int = 12) -> RGB:
    shift = rng.randint(-spread, spread)
    red, green, blue = (min(255, max(0, part + shift + rng.randint(-4, 4))) for part in color)
    return red, green, blue


def _sky(canvas: Image.Image, horizon: int, rng: random.Random) -> None:
    _gradient(canvas, 0, horizon + 4, tint(rng, (112, 178, 232)), tint(rng, (206, 232, 246)))
    draw = ImageDraw.Draw(canvas)
    if rng.random() < 0.3:
        x, y = rng.randint(40, _SIDE - 40), rng.randint(30, 60)
        draw.ellipse((x - 26, y - 26, x + 26, y + 26), fill=(255, 236, 150))
    for _ in range(rng.randint(0, 3)):
        _cloud(draw, rng.randint(0, _SIDE), rng.randint(16, max(20, horizon - 70)), rng.randint(14, 26), rng)


def _cloud(draw: ImageDraw.ImageDraw, x: int, y: int, size: int, rng: random.Random) -> None:
    for step in range(-2, 3):
        radius = size * (1.2 - 0.28 * abs(step)) * rng.uniform(0.8, 1.1)
        center = x + step * size * 0.9
        draw.ellipse((center - radius * 1.2, y - radius, center + radius * 1.2, y + radius * 0.7), fill=(250, 252, 254))


def _tufts(draw: ImageDraw.ImageDraw, top: int, count: int, color: RGB, rng: random.Random) -> None:
    for _ in range(count):
        x, y = rng.randint(0, _SIDE), rng.randint(top + 10, _SIDE)
        height = 6 + 14 * (y - top) / (_SIDE - top)
        for lean in (-5, 0, 5):
            draw.line([(x, y), (x + lean, y - height)], fill=color, width=3)


def _stones(draw: ImageDraw.ImageDraw, top: int, count: int, color: RGB, rng: random.Random) -> None:
    for _ in range(count):
        x, y = rng.randint(0, _SIDE), rng.randint(top + 12, _SIDE - 8)
        size = rng.randint(4, 10)
        draw.ellipse((x - size, y - size * 0.6, x + size, y + size * 0.6), fill=tint(rng, color))


def _hills(draw: ImageDraw.ImageDraw, horizon: int, color: RGB, rng: random.Random) -> None:
    for _ in range(rng.randint(1, 3)):
        x, across, rise = rng.randint(0, _SIDE), rng.randint(140, 260), rng.randint(26, 70)
        draw.ellipse((x - across, horizon - rise, x + across, horizon + rise), fill=tint(rng, color))


def _beach(canvas: Image.Image, horizon: int, rng: random.Random) -> None:
    sea = horizon - 64
    _sky(canvas, sea, rng)
    _gradient(canvas, sea, horizon + 12, tint(rng, (40, 120, 178)), tint(rng, (110, 196, 214)))
    draw = ImageDraw.Draw(canvas)
    for _ in range(9):
        x, y = rng.randint(0, _SIDE), rng.randint(sea + 8, horizon)
        draw.line([(x, y), (x + rng.randint(14, 50), y)], fill=(222, 242, 246), width=2)
    _gradient(canvas, horizon, _SIDE, tint(rng, (240, 220, 170)), tint(rng, (222, 190, 130)))
    for x in range(-20, _SIDE, 40):
        draw.ellipse((x, horizon - 8, x + 60, horizon + 10), fill=(246, 250, 250))
    _stones(draw, horizon + 14, rng.randint(4, 12), (206, 178, 128), rng)
    for _ in range(rng.randint(0, 3)):
        x, y = rng.randint(10, _SIDE - 10), rng.randint(horizon + 30, _SIDE - 10)
        draw.pieslice((x - 8, y - 8, x + 8, y + 8), 200, 340, fill=(250, 232, 222), outline=(196, 150, 140))


def _field(canvas: Image.Image, horizon: int, rng: random.Random) -> None:
    _sky(canvas, horizon, rng)
    draw = ImageDraw.Draw(canvas)
    _hills(draw, horizon, (120, 176, 110), rng)
    _gradient(canvas, horizon, _SIDE, tint(rng, (150, 200, 100)), tint(rng, (104, 164, 66)))
    _tufts(draw, horizon, rng.randint(16, 36), (84, 140, 58), rng)
    _stones(draw, horizon, rng.randint(0, 3), (156, 156, 148), rng)


def _street(canvas: Image.Image, horizon: int, rng: random.Random) -> None:
    _sky(canvas, horizon, rng)
    draw = ImageDraw.Draw(canvas)
    x = -rng.randint(0, 40)
    while x < _SIDE:
        width, height = rng.randint(70, 130), rng.randint(70, max(90, horizon - 60))
        wall = tint(rng, rng.choice(((190, 176, 164), (168, 172, 180), (198, 186, 158), (176, 160, 160))), 10)
        draw.rectangle((x, horizon - height, x + width, horizon), fill=wall)
        for left in range(x + 12, x + width - 16, 26):
            for top in range(horizon - height + 14, horizon - 18, 30):
                draw.rectangle((left, top, left + 12, top + 16), fill=mix(wall, (60, 80, 110), 0.45))
        x += width + rng.randint(0, 8)
    draw.rectangle((0, horizon, _SIDE, horizon + 26), fill=tint(rng, (196, 194, 188)))
    _gradient(canvas, horizon + 26, _SIDE, tint(rng, (120, 122, 126)), tint(rng, (98, 100, 104)))
    draw.line([(0, horizon + 26), (_SIDE, horizon + 26)], fill=(150, 148, 144), width=5)
    middle = (horizon + 26 + _SIDE) // 2 + 10
    offset = rng.randint(0, 90)
    for left in range(-offset, _SIDE, 100):
        draw.polygon(
            [(left, middle), (left + 52, middle), (left + 48, middle + 9), (left - 4, middle + 9)], fill=(232, 230, 218)
        )


def _snow(canvas: Image.Image, horizon: int, rng: random.Random) -> None:
    _gradient(canvas, 0, horizon + 4, tint(rng, (166, 190, 214)), tint(rng, (222, 232, 240)))
    draw = ImageDraw.Draw(canvas)
    _hills(draw, horizon, (206, 220, 234), rng)
    for _ in range(rng.randint(2, 6)):
        x, height = rng.randint(0, _SIDE), rng.randint(40, 76)
        for level in range(3):
            top = horizon - height + level * height // 4
            half = 12 + level * 7
            draw.polygon([(x, top), (x - half, top + height // 2), (x + half, top + height // 2)], fill=(96, 132, 122))
    _gradient(canvas, horizon, _SIDE, tint(rng, (238, 243, 248), 6), tint(rng, (214, 224, 236), 6))
    for _ in range(4):
        x, y = rng.randint(-60, _SIDE), rng.randint(horizon + 20, _SIDE)
        draw.arc((x, y, x + rng.randint(120, 260), y + 40), 190, 350, fill=(190, 204, 222), width=3)
    for _ in range(rng.randint(20, 60)):
        x, y = rng.randint(0, _SIDE), rng.randint(0, _SIDE)
        draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=(255, 255, 255))


def _water(canvas: Image.Image, horizon: int, rng: random.Random) -> None:
    _sky(canvas, horizon, rng)
    draw = ImageDraw.Draw(canvas)
    if rng.random() < 0.5:
        _hills(draw, horizon, (126, 150, 140), rng)
    _gradient(canvas, horizon, _SIDE, tint(rng, (96, 182, 208)), tint(rng, (24, 92, 150)))
    for _ in range(rng.randint(22, 36)):
        x, y = rng.randint(-20, _SIDE), rng.randint(horizon + 6, _SIDE - 6)
        width = 14 + 30 * (y - horizon) // (_SIDE - horizon)
        draw.arc((x, y, x + width, y + 10), 200, 340, fill=(176, 220, 234), width=2)
        draw.arc((x + width, y, x + 2 * width, y + 10), 200, 340, fill=(176, 220, 234), width=2)


def _night(canvas: Image.Image, horizon: int, rng: random.Random) -> None:
    _gradient(canvas, 0, horizon + 4, tint(rng, (14, 18, 52), 5), tint(rng, (52, 62, 116), 8))
    draw = ImageDraw.Draw(canvas)
    for _ in range(rng.randint(30, 60)):
        x, y, size = rng.randint(0, _SIDE), rng.randint(0, horizon), rng.choice((1, 1, 2, 3))
        draw.ellipse((x - size, y - size, x + size, y + size), fill=(246, 244, 214))
    x, y = rng.randint(50, _SIDE - 50), rng.randint(40, 80)
    draw.ellipse((x - 28, y - 28, x + 28, y + 28), fill=(250, 244, 206))
    if rng.random() < 0.5:
        draw.ellipse((x - 14, y - 34, x + 38, y + 20), fill=(22, 27, 66))
    _hills(draw, horizon, (38, 48, 78), rng)
    _gradient(canvas, horizon, _SIDE, tint(rng, (46, 76, 84), 6), tint(rng, (34, 58, 62), 6))
    _tufts(draw, horizon, rng.randint(10, 24), (28, 48, 52), rng)


def _room(canvas: Image.Image, horizon: int, rng: random.Random) -> None:
    wall = tint(rng, rng.choice(((228, 214, 190), (206, 220, 214), (222, 206, 206), (214, 216, 230))), 6)
    _gradient(canvas, 0, horizon + 4, wall, mix(wall, (255, 255, 255), 0.3))
    draw = ImageDraw.Draw(canvas)
    left = rng.choice((30, 300)) + rng.randint(0, 40)
    draw.rectangle((left, 40, left + 130, 180), fill=(250, 248, 240), outline=(190, 176, 150), width=4)
    draw.rectangle((left + 10, 50, left + 120, 170), fill=(172, 212, 240))
    draw.rectangle((left + 10, 130, left + 120, 170), fill=(150, 196, 120))
    draw.line([(left + 65, 50), (left + 65, 170)], fill=(250, 248, 240), width=7)
    draw.line([(left + 10, 110), (left + 120, 110)], fill=(250, 248, 240), width=7)
    if rng.random() < 0.6:
        frame = 340 - left + rng.randint(-10, 10)
        draw.rectangle((frame, 70, frame + 84, 140), fill=(238, 230, 214), outline=WOOD, width=6)
        draw.ellipse((frame + 24, 84, frame + 60, 126), fill=tint(rng, (170, 160, 150), 30))
    floor = tint(rng, (196, 150, 104))
    _gradient(canvas, horizon, _SIDE, floor, mix(floor, (90, 54, 26), 0.3))
    for step in range(1, 6):
        y = horizon + (_SIDE - horizon) * step * step // 36
        draw.line([(0, y), (_SIDE, y)], fill=mix(floor, (70, 40, 20), 0.35), width=2)
    draw.rectangle((0, horizon - 10, _SIDE, horizon + 2), fill=(246, 242, 234))
    if rng.random() < 0.5:
        x, y = rng.randint(120, _SIDE - 120), rng.randint(horizon + 80, _SIDE - 50)
        rug = tint(rng, rng.choice(((176, 120, 110), (120, 140, 160), (150, 156, 120))))
        draw.ellipse((x - 150, y - 34, x + 150, y + 34), fill=rug, outline=mix(rug, (255, 255, 255), 0.5), width=5)


_PLACES: dict[str, Callable[[Image.Image, int, random.Random], None]] = {
    "beach": _beach,
    "field": _field,
    "street": _street,
    "snow": _snow,
    "water": _water,
    "night": _night,
    "room": _room,
}
