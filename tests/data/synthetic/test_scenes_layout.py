"""Layouts of scenes: relations hold in the coordinates, and held-out combinations stay in their split."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import pytest

from captioner.data.synthetic.scenes.compositions import NUMBERS, related, reserved_for
from captioner.data.synthetic.scenes.generate_scenes import generate_scene
from captioner.data.synthetic.scenes.layout import IMAGE_SIZE, Placement, Scene
from captioner.data.synthetic.scenes.world import CAMOUFLAGE, COLORS, KINDS, PLACES, RELATIONS, partners, possible

SPLITS = ("train", "val", "test")


@lru_cache(maxsize=3)
def scenes(split: str) -> tuple[Scene, ...]:
    return tuple(generate_scene(11, split, index).scene for index in range(800))


def _overlap(first: Placement, second: Placement) -> bool:
    across = first.left < second.left + second.width and second.left < first.left + first.width
    return across and first.top < second.bottom and second.top < first.bottom


HOLDS: dict[str, Callable[[Placement, tuple[Placement, ...]], bool]] = {
    "left of": lambda main, others: main.left + main.width <= others[0].left,
    "right of": lambda main, others: others[0].left + others[0].width <= main.left,
    "above": lambda main, others: main.bottom <= others[0].top and abs(main.center - others[0].center) < 1,
    "below": lambda main, others: main.top >= others[0].bottom and abs(main.center - others[0].center) < 1,
    "on": lambda main, others: (
        main.top < others[0].top + 0.5 * others[0].height
        and others[0].top <= main.bottom < others[0].top + 0.7 * others[0].height
        and others[0].left < main.center < others[0].left + others[0].width
    ),
    "under": lambda main, others: (
        main.top > others[0].top + 0.25 * others[0].height
        and others[0].left < main.center < others[0].left + others[0].width
    ),
    "in front of": lambda main, others: _overlap(main, others[0]) and main.bottom > others[0].bottom,
    "between": lambda main, others: (
        others[0].left + others[0].width <= main.left and main.left + main.width <= others[1].left
    ),
}


@pytest.mark.parametrize("relation", RELATIONS)
def test_the_relation_holds_in_the_coordinates(relation: str) -> None:
    shown = [scene for split in SPLITS for scene in scenes(split) if scene.relation == relation]
    assert len(shown) > 15
    for scene in shown:
        assert scene.other is not None
        assert len(scene.other_placements) == (2 if relation == "between" else 1)
        assert HOLDS[relation](scene.main_placements[0], scene.other_placements), scene


def test_boxes_are_inside_the_image_and_not_tiny() -> None:
    for split in SPLITS:
        for scene in scenes(split):
            for appearance, placement in scene.objects():
                assert placement.left >= 1, scene
                assert placement.top >= 1, scene
                assert placement.left + placement.width <= IMAGE_SIZE - 1, scene
                assert placement.bottom <= IMAGE_SIZE - 1, scene
                assert min(placement.width, placement.height) > 14, scene
                kind = KINDS[appearance.kind]
                assert placement.width / placement.height == pytest.approx(kind.width / kind.height)


def test_standing_and_floating_objects_are_below_the_horizon() -> None:
    for scene in scenes("train"):
        for appearance, placement in scene.objects():
            seated = scene.relation == "on" and appearance is scene.main
            if scene.stance_of(appearance) in ("ground", "float") and not seated:
                assert placement.bottom > scene.horizon + 6, scene
            if scene.stance_of(appearance) == "swim":
                assert placement.top > scene.horizon, scene


def test_objects_of_a_group_do_not_hide_each_other() -> None:
    groups = [scene for scene in scenes("train") if len(scene.main_placements) > 1]
    assert {len(scene.main_placements) for scene in groups} == {2, 3, 4, 5}
    for scene in groups:
        for number, first in enumerate(scene.main_placements):
            for second in scene.main_placements[:number]:
                across = min(first.left + first.width, second.left + second.width) - max(first.left, second.left)
                down = min(first.bottom, second.bottom) - max(first.top, second.top)
                assert max(across, 0) * max(down, 0) < 0.3 * first.width * first.height, scene


def test_every_kind_color_place_and_relation_occurs_in_training() -> None:
    appearances = [appearance for scene in scenes("train") for appearance, _ in scene.objects()]
    assert {appearance.kind for appearance in appearances} == set(KINDS)
    assert {appearance.color for appearance in appearances} == set(COLORS)
    assert {appearance.size for appearance in appearances} == {"small", "medium", "large"}
    assert {appearance.texture for appearance in appearances} == {"plain", "striped", "spotted"}
    assert {scene.place for scene in scenes("train")} == set(PLACES)
    assert {scene.relation for scene in scenes("train")} == {None, *RELATIONS}


def test_objects_are_only_in_possible_places() -> None:
    for scene in scenes("train"):
        for appearance, _ in scene.objects():
            assert scene.place in KINDS[appearance.kind].places
            assert (appearance.color, scene.place) not in CAMOUFLAGE
            assert appearance.texture in ("plain", *KINDS[appearance.kind].textures)
        if scene.other is not None:
            assert scene.other.kind != scene.main.kind
            assert scene.other.color != scene.main.color
            assert scene.relation is not None
            assert possible(scene.main.kind, scene.relation, scene.other.kind, scene.place)


def test_reserved_combinations_never_occur_in_training_nor_in_the_other_split() -> None:
    for split in SPLITS:
        for scene in scenes(split):
            owners = {reserved_for(composition) for composition in scene.compositions()}
            assert owners <= {None, split}, scene
            assert scene.held_out == (split in owners)


def test_about_half_of_val_and_test_shows_a_combination_that_training_does_not() -> None:
    trained = {composition for scene in scenes("train") for composition in scene.compositions()}
    for split in ("val", "test"):
        new = [scene for scene in scenes(split) if scene.held_out]
        assert 0.42 < len(new) / 800 < 0.58
        assert all(not scene.compositions() <= trained for scene in new)


def test_every_kind_has_a_color_for_each_split_and_most_for_training() -> None:
    for kind in KINDS:
        owners = [reserved_for((color, kind)) for color in COLORS]
        assert owners.count("val") == owners.count("test") == 1
        assert owners.count(None) == len(COLORS) - 2
    for color in COLORS:
        assert {reserved_for((color, kind)) for kind in KINDS} == {None, "val", "test"}


def test_every_kind_has_at_most_one_reserved_number() -> None:
    for kind in KINDS:
        owners = [reserved_for((number, kind)) for number in NUMBERS[2:]]
        assert owners.count(None) >= 3


def test_relations_and_numbers_are_reserved_sparingly() -> None:
    relations = {
        related(kind, relation, other)
        for place in PLACES
        for kind in KINDS
        if place in KINDS[kind].places
        for other in partners(kind, place)
        for relation in RELATIONS
        if possible(kind, relation, other, place)
    }
    for combinations in (relations, {(number, kind) for number in NUMBERS[2:] for kind in KINDS}):
        owners = [reserved_for(composition) for composition in combinations]
        for split in ("val", "test"):
            assert 0.04 < owners.count(split) / len(owners) < 0.2
        assert owners.count(None) > 0.7 * len(owners)


def test_equivalent_relations_have_one_name() -> None:
    assert related("cat", "below", "kite") == related("kite", "above", "cat") == ("kite", "above", "cat")
    assert related("cat", "left of", "dog") == related("dog", "right of", "cat") == ("cat", "beside", "dog")
    assert related("cat", "on", "chair") != related("chair", "on", "cat")


def test_an_unknown_relation_is_a_programming_error() -> None:
    with pytest.raises(ValueError, match="beneath"):
        possible("cat", "beneath", "table", "room")
