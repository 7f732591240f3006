"""From a scene to its picture."""

from __future__ import annotations

import random
from collections.abc import Callable

from PIL import Image, ImageDraw

from captioner.data.scenes import animals, things, vehicles
from captioner.data.scenes.backdrops import backdrop
from captioner.data.scenes.brush import OVERSAMPLING, Brush
from captioner.data.scenes.layout import Look, Scene, Spot
from captioner.data.scenes.world import KINDS, stance

_ARTISTS: dict[str, Callable[[Brush], None]] = {
    "cat": animals.cat,
    "dog": animals.dog,
    "bird": animals.flying_bird,
    "fish": animals.fish,
    "horse": animals.horse,
    "elephant": animals.elephant,
    "butterfly": animals.butterfly,
    "duck": animals.duck,
    "car": vehicles.car,
    "bus": vehicles.bus,
    "boat": vehicles.boat,
    "bicycle": vehicles.bicycle,
    "plane": vehicles.plane,
    "ball": things.ball,
    "tree": things.tree,
    "house": things.house,
    "umbrella": things.umbrella,
    "balloon": things.balloon,
    "cup": things.cup,
    "flower": things.flower,
    "chair": things.chair,
    "table": things.table,
    "kite": things.kite,
}


def draw_scene(scene: Scene, rng: random.Random) -> Image.Image:
    """The RGB picture, PICTURE_SIZE by PICTURE_SIZE. `rng` decides the clutter and nothing that can be said."""
    canvas = backdrop(scene.place, scene.horizon, rng)
    objects = sorted(scene.things(), key=lambda item: (_in_front(scene, item[0]), item[1].bottom))
    for look, spot in objects:
        held = "ground" if _supported(scene, look) else stance(look.kind, scene.place)
        if held == "ground" and not (scene.relation == "on" and look is scene.main):
            _shadow(canvas, spot)
        draw_object(canvas, look, spot, flying=held == "air")
        if held == "float":
            _ripples(canvas, spot)
    return canvas.reduce(OVERSAMPLING)


def draw_object(canvas: Image.Image, look: Look, spot: Spot, flying: bool = True) -> None:
    """One object on a canvas that is OVERSAMPLING times as large as the picture `spot` is measured in."""
    artist = _ARTISTS[look.kind]
    if look.kind == "bird" and not flying:
        artist = animals.perched_bird
    artist(Brush(canvas, spot, KINDS[look.kind].width, look.colour, look.texture))


def _in_front(scene: Scene, look: Look) -> bool:
    return look is scene.main and scene.relation in ("on", "under", "in front of")


def _supported(scene: Scene, look: Look) -> bool:
    """True for what would fly, had the scene not put it on or under something."""
    return look is scene.main and scene.relation in ("on", "under")


def _shadow(canvas: Image.Image, spot: Spot) -> None:
    """A soft dark ellipse on the ground beneath the object."""
    width, height = round(spot.width * OVERSAMPLING), max(8, round(0.1 * spot.width * OVERSAMPLING))
    left = round(spot.left * OVERSAMPLING)
    top = round(spot.bottom * OVERSAMPLING - 0.62 * height)
    mask = Image.new("L", (width, height))
    ImageDraw.Draw(mask).ellipse((width * 0.03, 0, width * 0.97, height - 1), fill=76)
    canvas.paste((26, 26, 34), (left, top), mask)


def _ripples(canvas: Image.Image, spot: Spot) -> None:
    """Water over the lowest part of what floats."""
    draw = ImageDraw.Draw(canvas)
    bottom = spot.bottom * OVERSAMPLING
    left, right = spot.left * OVERSAMPLING, (spot.left + spot.width) * OVERSAMPLING
    step = (right - left) / 5
    for index in range(5):
        start = left + index * step
        draw.chord((start - 2, bottom - 10, start + step + 2, bottom + 8), 180, 360, fill=(92, 168, 200))
        draw.arc((start - 2, bottom - 10, start + step + 2, bottom + 8), 190, 350, fill=(206, 234, 242), width=2)
