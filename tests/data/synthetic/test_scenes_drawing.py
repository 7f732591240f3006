"""Images of scenes: every object fills its box and shows its color, and clutter does not affect captions."""

from __future__ import annotations

import random

import numpy as np
import pytest
from PIL import Image

from captioner.data.synthetic.scenes.backdrops import backdrop
from captioner.data.synthetic.scenes.brush import PAINTS, Brush, brightness, mix
from captioner.data.synthetic.scenes.drawing import ARTISTS, artist_of, draw_object, draw_scene
from captioner.data.synthetic.scenes.generate_scenes import generate_scene
from captioner.data.synthetic.scenes.layout import IMAGE_SIZE, Appearance, Placement, Scene
from captioner.data.synthetic.scenes.world import COLORS, KINDS, PLACES


def _alone(kind: str, color: str = "red", texture: str = "plain", longest: float = 160, flipped: bool = False) -> Scene:
    about = KINDS[kind]
    factor = longest / max(about.width, about.height)
    placement = Placement(40.4, 50.7, about.width * factor, about.height * factor, flipped)
    return Scene(about.places[0], 100, Appearance(kind, color, texture), (placement,))


def _painted(scene: Scene) -> np.ndarray:
    """(rows, columns): the difference from the same image without objects, in the channel where it is largest."""
    with_objects = np.asarray(draw_scene(scene, random.Random(3)), dtype=int)
    without = np.asarray(backdrop(scene.place, scene.horizon, random.Random(3)), dtype=int)
    return np.abs(with_objects - without).max(axis=2)


def test_every_kind_and_every_color_can_be_drawn() -> None:
    assert set(ARTISTS) == set(KINDS)
    assert set(PAINTS) == set(COLORS)


@pytest.mark.parametrize(("kind", "stance"), [*((kind, "air") for kind in KINDS), ("bird", "ground")])
def test_the_box_is_tight(kind: str, stance: str) -> None:
    """The drawing fills the box to within 8 % of its longer side and does not exceed it."""
    scene = _alone(kind)
    placement = scene.main_placements[0]
    tile, (left, top) = draw_object(artist_of(kind, stance), scene.main, placement, PAINTS["red"])
    box = tile.getchannel("A").point(lambda alpha: 255 * (alpha > 127)).getbbox()
    assert box is not None
    slack = 0.08 * max(placement.width, placement.height)
    for drawn, captions in (
        (left + box[0], placement.left),
        (top + box[1], placement.top),
        (placement.left + placement.width, left + box[2]),
        (placement.bottom, top + box[3]),
    ):
        assert -1.5 <= drawn - captions <= slack


@pytest.mark.parametrize("kind", KINDS)
def test_most_of_an_object_has_its_color(kind: str) -> None:
    """More pixels are nearest to the object's color than to any other."""
    for color in ("red", "blue", "yellow"):
        scene = _alone(kind, color)
        tile, _ = draw_object(artist_of(kind, "ground"), scene.main, scene.main_placements[0], PAINTS[color])
        pixels = np.asarray(tile)
        solid = pixels[pixels[..., 3] == 255][:, :3].astype(int)
        own = np.abs(solid - np.array(PAINTS[color])).sum(axis=1) < 12
        others = [
            (np.abs(solid - np.array(PAINTS[paint])).sum(axis=1) < 12).mean() for paint in COLORS if paint != color
        ]
        assert own.mean() > max(others)
        assert own.mean() > 0.05


@pytest.mark.parametrize("texture", ["striped", "spotted"])
def test_a_texture_shows_and_keeps_the_outline(texture: str) -> None:
    kinds = [kind for kind, about in KINDS.items() if texture in about.textures]
    assert len(kinds) > 4
    for kind in kinds:
        scene = _alone(kind, texture=texture)
        plain, _ = draw_object(artist_of(kind, "ground"), _alone(kind).main, scene.main_placements[0], PAINTS["red"])
        rough, _ = draw_object(artist_of(kind, "ground"), scene.main, scene.main_placements[0], PAINTS["red"])
        assert np.array_equal(plain.getchannel("A"), rough.getchannel("A"))
        changed = np.abs(np.asarray(plain, dtype=int) - np.asarray(rough, dtype=int)).max(axis=2) > 60
        assert changed.mean() > 0.02, kind


def test_a_flipped_object_is_the_flipped_drawing() -> None:
    dog = Appearance("dog", "red")
    here, there = (
        np.asarray(draw_object(ARTISTS["dog"], dog, Placement(50, 60, 120, 91, flipped), PAINTS["red"])[0], dtype=int)
        for flipped in (False, True)
    )
    assert (np.abs(there[:, ::-1] - here).max(axis=2) > 90).mean() < 0.04
    assert (np.abs(there - here).max(axis=2) > 90).mean() > 0.2


def test_nothing_is_drawn_far_outside_the_boxes() -> None:
    """Except for shadows and ripples below an object."""
    for index in range(40):
        scene = generate_scene(4, "train", index).scene
        with_objects = np.asarray(draw_scene(scene, random.Random(3)), dtype=int)
        without = np.asarray(backdrop(scene.place, scene.horizon, random.Random(3)), dtype=int)
        changed = np.abs(with_objects - without).max(axis=2) > 8
        for _, placement in scene.objects():
            rows = slice(max(0, int(placement.top) - 2), int(placement.bottom + 0.06 * placement.width) + 8)
            changed[rows, max(0, int(placement.left) - 7) : int(placement.left + placement.width) + 8] = False
        assert not changed.any()


def test_every_object_can_be_seen() -> None:
    for index in range(60):
        scene = generate_scene(5, "test", index).scene
        painted = _painted(scene) > 14
        for _, placement in scene.objects():
            box = painted[
                int(placement.top) : int(placement.bottom), int(placement.left) : int(placement.left + placement.width)
            ]
            assert box.mean() > 0.1, scene


@pytest.mark.parametrize("place", PLACES)
def test_clutter_differs_from_image_to_image(place: str) -> None:
    first, second = (np.asarray(backdrop(place, 120, random.Random(seed)), dtype=int) for seed in (1, 2))
    assert first.shape == (IMAGE_SIZE, IMAGE_SIZE, 3)
    assert (np.abs(first - second).max(axis=2) > 0).mean() > 0.3


def test_the_main_object_is_drawn_over_what_it_is_in_front_of() -> None:
    house, cat = Placement(60, 40, 124, 120), Placement(100, 100, 80, 100)
    scene = Scene("field", 100, Appearance("cat", "red"), (cat,), "in front of", Appearance("house", "blue"), (house,))
    image = np.asarray(draw_scene(scene, random.Random(0)))
    assert image[180, 125, 0] > 120 > image[180, 125, 2]  # the cat's red flank before the blue wall


def test_a_thin_brush_still_draws() -> None:
    tile = Image.new("RGBA", (12, 12))
    brush = Brush(tile, 0.1, (1.0, 1.0), None, PAINTS["green"], "plain")
    brush.stroke([(0, 0), (50, 50), (100, 0)], 1.0, smooth=True)
    assert tile.getbbox() is not None


def test_mix_and_brightness() -> None:
    assert mix((0, 0, 0), (200, 100, 50), 0.5) == (100, 50, 25)
    assert brightness((0, 0, 0)) == 0
    assert brightness((255, 255, 255)) == pytest.approx(255)
