"""From a scene to its image."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from PIL import Image, ImageDraw

from captioner.data.synthetic.scenes import animals, things, vehicles
from captioner.data.synthetic.scenes.backdrops import backdrop, tint
from captioner.data.synthetic.scenes.brush import PAINTS, RGB, Brush
from captioner.data.synthetic.scenes.layout import Look, Scene, Spot
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
"""About how many pixels the longer side of an object is drawn with before it is averaged down."""


def draw_scene(scene: Scene, rng: random.Random) -> Image.Image:
    """The RGB image, IMAGE_SIZE by IMAGE_SIZE. `rng` decides the clutter and shades, nothing that is said."""
    image = backdrop(scene.place, scene.horizon, rng)
    paints = {look: tint(rng, PAINTS[look.color], spread=7) for look in (scene.main, scene.other) if look is not None}
    nearest_last = sorted(scene.things(), key=lambda thing: (_overlaps(scene, thing[0]), thing[1].bottom))
    for look, spot in nearest_last:
        held = scene.stance_of(look)
        if held == "ground" and not (scene.relation == "on" and look is scene.main):
            _shadow(image, spot)
        tile, corner = draw_object(artist_of(look.kind, held), look, spot, paints[look])
        image.paste(tile, corner, tile)
        if held == "float":
            _ripples(image, spot)
    return image


def artist_of(kind: str, held: str) -> Artist:
    """Who draws this kind when it is held so: only a bird looks different in the air and on something."""
    return animals.perched_bird if kind == "bird" and held == "ground" else ARTISTS[kind]


def draw_object(artist: Artist, look: Look, spot: Spot, paint: RGB) -> tuple[Image.Image, tuple[int, int]]:
    """An RGBA tile with the object on it, and where its top left corner goes in the image."""
    kind = KINDS[look.kind]
    oversampling = min(6, max(2, round(_TILE_SIDE / max(spot.width, spot.height))))
    corner = (math.floor(spot.left) - 1, math.floor(spot.top) - 1)
    extent = (math.ceil(spot.left + spot.width) + 1 - corner[0], math.ceil(spot.bottom) + 1 - corner[1])
    tile = Image.new("RGBA", (extent[0] * oversampling, extent[1] * oversampling))
    origin = ((spot.left - corner[0]) * oversampling, (spot.top - corner[1]) * oversampling)
    scale = spot.width * oversampling / kind.width
    artist(Brush(tile, scale, origin, kind.width if spot.flipped else None, paint, look.texture))
    return tile.reduce(oversampling), corner


def _overlaps(scene: Scene, look: Look) -> bool:
    """True for what is drawn over the other object wherever the two meet."""
    return look is scene.main and scene.relation in ("on", "under", "in front of")


def _shadow(image: Image.Image, spot: Spot) -> None:
    """A soft dark ellipse on the ground beneath the object."""
    width, height = round(spot.width), max(5, round(0.1 * spot.width))
    mask = Image.new("L", (4 * width, 4 * height))
    ImageDraw.Draw(mask).ellipse((width * 0.1, 0, width * 3.9, 4 * height - 1), fill=76)
    image.paste((26, 26, 34), (round(spot.left), round(spot.bottom - 0.62 * height)), mask.reduce(4))


def _ripples(image: Image.Image, spot: Spot) -> None:
    """Water over the lowest part of what floats."""
    width, height = math.ceil(spot.width) + 8, 12
    tile = Image.new("RGBA", (3 * width, 3 * height))
    draw = ImageDraw.Draw(tile)
    step = 3 * width / 6
    for index in range(6):
        wave = (index * step - 2, 6, (index + 1) * step + 2, 3 * height + 10)
        draw.chord(wave, 180, 360, fill=(86, 162, 196, 255))
        draw.arc(wave, 190, 350, fill=(206, 234, 242, 255), width=4)
    small = tile.reduce(3)
    image.paste(small, (round(spot.left) - 4, round(spot.bottom) - 7), small)
