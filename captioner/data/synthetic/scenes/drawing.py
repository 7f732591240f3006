"""Draws the image of a scene."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from PIL import Image, ImageDraw

from captioner.data.synthetic.scenes import animals, things, vehicles
from captioner.data.synthetic.scenes.backdrops import backdrop, tint
from captioner.data.synthetic.scenes.brush import PAINTS, RGB, Brush
from captioner.data.synthetic.scenes.layout import Appearance, Placement, Scene
from captioner.data.synthetic.scenes.world import KINDS

Artist = Callable[[Brush], None]

ARTISTS: dict[str, Artist] = {
    "cat": animals.cat,
    "dog": animals.dog,
    "bird": animals.flying_bird,
    "fish": animals.fish,
    "horse": animals.horse,
    "elephant": animals.elephant,
    "butterfly": animals.butterfly,
    "rabbit": animals.rabbit,
    "turtle": animals.turtle,
    "duck": animals.duck,
    "car": vehicles.car,
    "bus": vehicles.bus,
    "train": vehicles.train,
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
    "apple": things.apple,
    "mushroom": things.mushroom,
    "table": things.table,
    "kite": things.kite,
}


_TILE_SIDE = 600.0
"""Approximate pixels of the longer side of an object when it is drawn, before it is scaled down."""


def draw_scene(scene: Scene, rng: random.Random) -> Image.Image:
    """The RGB image, IMAGE_SIZE × IMAGE_SIZE. `rng` determines clutter and shades, nothing that captions mention."""
    image = backdrop(scene.place, scene.horizon, rng)
    paints = {
        appearance: tint(rng, PAINTS[appearance.color], spread=7)
        for appearance in (scene.main, scene.other)
        if appearance is not None
    }
    nearest_last = sorted(scene.objects(), key=lambda thing: (_overlaps(scene, thing[0]), thing[1].bottom))
    for appearance, placement in nearest_last:
        stance = scene.stance_of(appearance)
        if stance == "ground" and not (scene.relation == "on" and appearance is scene.main):
            _shadow(image, placement)
        tile, corner = draw_object(artist_of(appearance.kind, stance), appearance, placement, paints[appearance])
        image.paste(tile, corner, tile)
        if stance == "float":
            _ripples(image, placement)
    return image


def artist_of(kind: str, stance: str) -> Artist:
    """The drawing function for a kind in this stance. Only birds look different in the air and on the ground."""
    return animals.perched_bird if kind == "bird" and stance == "ground" else ARTISTS[kind]


def draw_object(
    artist: Artist, appearance: Appearance, placement: Placement, paint: RGB
) -> tuple[Image.Image, tuple[int, int]]:
    """(RGBA tile with the object, position of its top left corner in the image)."""
    kind = KINDS[appearance.kind]
    oversampling = min(6, max(2, round(_TILE_SIDE / max(placement.width, placement.height))))
    corner = (math.floor(placement.left) - 1, math.floor(placement.top) - 1)
    extent = (math.ceil(placement.left + placement.width) + 1 - corner[0], math.ceil(placement.bottom) + 1 - corner[1])
    # Premultiplied, as reduce would convert it: what is drawn is opaque, and all else is 0.
    tile = Image.new("RGBa", (extent[0] * oversampling, extent[1] * oversampling))
    origin = ((placement.left - corner[0]) * oversampling, (placement.top - corner[1]) * oversampling)
    scale = placement.width * oversampling / kind.width
    artist(Brush(tile, scale, origin, kind.width if placement.flipped else None, paint, appearance.texture))
    return tile.reduce(oversampling).convert("RGBA"), corner


def _overlaps(scene: Scene, appearance: Appearance) -> bool:
    """Whether this object is drawn over the other one where they overlap."""
    return appearance is scene.main and scene.relation in ("on", "under", "in front of")


def _shadow(image: Image.Image, placement: Placement) -> None:
    """Draw a soft dark ellipse on the ground beneath the object."""
    width, height = round(placement.width), max(5, round(0.1 * placement.width))
    mask = Image.new("L", (4 * width, 4 * height))
    ImageDraw.Draw(mask).ellipse((width * 0.1, 0, width * 3.9, 4 * height - 1), fill=76)
    image.paste((26, 26, 34), (round(placement.left), round(placement.bottom - 0.62 * height)), mask.reduce(4))


def _ripples(image: Image.Image, placement: Placement) -> None:
    """Draw water over the lowest part of a floating object."""
    width, height = math.ceil(placement.width) + 8, 12
    tile = Image.new("RGBA", (3 * width, 3 * height))
    draw = ImageDraw.Draw(tile)
    step = 3 * width / 6
    for index in range(6):
        wave = (index * step - 2, 6, (index + 1) * step + 2, 3 * height + 10)
        draw.chord(wave, 180, 360, fill=(86, 162, 196, 255))
        draw.arc(wave, 190, 350, fill=(206, 234, 242, 255), width=4)
    small = tile.reduce(3)
    image.paste(small, (round(placement.left) - 4, round(placement.bottom) - 7), small)
