"""CHAIR: cases by hand, a brute force that shares no code, and scenes, whose objects are known exactly."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import pytest

from captioner.config import CocoConfig, ScenesConfig
from captioner.data.datasets.registry import add_objects, load_references
from captioner.data.synthetic.scenes.generate_scenes import read_references
from captioner.errors import ConfigError
from captioner.metrics import METRICS, bootstrap_intervals, score
from captioner.metrics.chair import OF_REFERENCES, SCORES
from captioner.metrics.registry import is_lower_better, needs_objects
from captioner.text.coco_objects import CATEGORIES, CHAIR_NAMES
from captioner.text.object_words import ImageObjects, Phrase, labels_named


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("a hot dog and a dog on a dining table", ["hot dog", "dog", "dining table"]),
        ("a Teddy-Bear beside two bears", ["teddy bear", "bear"]),
        ("a man swings a baseball bat at a baseball game", ["person", "baseball bat"]),
        ("a baseball player near train tracks at a bus stop", ["person"]),
        ("a train on the train tracks", ["train"]),
        ("toilet paper on a toilet seat", ["toilet"]),
        ("an orange cat, two oranges and a glass of wine", ["cat", "orange", "wine glass"]),
        ("people playing a wii game with remote controls", ["person", "remote"]),
        ("motor bikes , a stop light and a fire truck", ["motorcycle", "traffic light", "truck"]),
        ("two women, a woman", ["person", "person"]),
        ("the sky", []),
        ("", []),
    ],
)
def test_the_objects_that_a_caption_names(caption: str, expected: list[str]) -> None:
    assert labels_named(re.sub("[,.]", " ", caption).split(), CHAIR_NAMES) == expected


def test_every_category_has_a_name_of_its_own() -> None:
    assert len(CATEGORIES) == len(set(CATEGORIES)) == 80
    for category in set(CATEGORIES) - {"orange"}:
        assert labels_named(category.split(), CHAIR_NAMES) == [category]
    assert set(CHAIR_NAMES.values()) == {*CATEGORIES, None}


REFERENCES = {1: ["a dog in the grass"], 2: ["a man", "a man on a horse"], 3: ["grass"]}
OBJECTS = ImageObjects({1: {"dog", "frisbee"}, 2: {"person"}}, CHAIR_NAMES, "by hand")


def test_by_hand() -> None:
    """Image 1: frisbee right, dog right, cat twice wrong. Image 2: nothing. Image 3: a man, and it has no object."""
    captions = {1: "a dog, a cat and a cat with a frisbee", 2: "grass", 3: "a man"}
    found = score(captions, REFERENCES, names=["CHAIR", "CHAIR_references"], objects=OBJECTS)
    assert found.unavailable == {}
    assert found.corpus == pytest.approx(
        {
            "CHAIR_s": 2 / 3,
            "CHAIR_i": 3 / 5,
            "Object_recall": 2 / 4,  # dog, frisbee; person, horse
            "CHAIR_s (references)": 2 / 3,
            "CHAIR_i (references)": 4 / 5,
            "Object_recall (references)": 1 / 3,
        }
    )
    assert {image: values["CHAIR_s"] for image, values in found.per_image.items()} == {1: 1.0, 2: 0.0, 3: 1.0}
    assert found.signature["chair"] == {"objects": "by hand and the references", "names": "COCO 1, of captioner"}
    assert found.signature["chair_references"]["objects"] == "the references"


def test_what_cannot_be_computed_is_not_zero() -> None:
    found = score({1: "the sky"}, {1: ["grass"]}, names=["CHAIR", "CHAIR_references"])
    assert "instances_*.json" in found.unavailable["CHAIR"]
    assert "CHAIR_references" in found.unavailable["CHAIR"]
    assert found.corpus == {"CHAIR_s (references)": 0.0}
    assert "no caption names" in found.unavailable["CHAIR_i (references)"]
    assert "no image has" in found.unavailable["Object_recall (references)"]


def test_lower_is_better_and_objects_are_needed() -> None:
    assert [is_lower_better(name) for name in (*SCORES, *OF_REFERENCES)] == [True, True, False] * 2
    assert needs_objects(["Bleu", "CHAIR"])
    assert needs_objects(["CHAIR_references"]), "for the words of the data set"
    assert not needs_objects(["Bleu", "Diversity"])
    assert {"CHAIR", "CHAIR_references"} <= set(METRICS)
    with pytest.raises(ConfigError, match="CHAIR"):
        score({1: "a"}, {1: ["a"]}, names=["CHIAR"])


def brute_force(
    hypotheses: Mapping[int, str],
    references: Mapping[int, list[str]],
    objects: Mapping[int, Collection[str]],
    names: Mapping[Phrase, str | None],
) -> dict[str, float]:
    """By regular expressions on text: leftmost, then longest."""
    text_of = {" ".join(phrase): label for phrase, label in names.items()}
    pattern = re.compile(r"(?<!\S)(?:" + "|".join(sorted(map(re.escape, text_of), key=len, reverse=True)) + r")(?!\S)")

    def named(text: str) -> list[str]:
        words = " ".join(re.sub("[.,-]", " ", text.lower()).split())
        return [label for match in pattern.findall(words) if (label := text_of[match]) is not None]

    wrong_captions = wrong = mentions = right = everything = 0
    for image, caption in hypotheses.items():
        truth = set(objects[image])
        for reference in references[image]:
            truth |= set(named(reference))
        found = named(caption)
        bad = [label for label in found if label not in truth]
        wrong_captions += bool(bad)
        wrong, mentions = wrong + len(bad), mentions + len(found)
        right, everything = right + len(truth.intersection(found)), everything + len(truth)
    return dict(zip(SCORES, (wrong_captions / len(hypotheses), wrong / mentions, right / everything), strict=True))


def test_real_captions_against_brute_force(real_data: Path) -> None:
    """600 images of COCO: each is captioned with the first reference of the next image; its objects are made up."""
    content = json.loads((real_data / "coco_text" / "captions_val2017.json").read_text("utf-8"))
    of_image: dict[int, list[str]] = {}
    for row in content["annotations"]:
        plain = re.sub(r"[^a-z -]", " ", row["caption"].lower())  # what both tokenizations split alike
        of_image.setdefault(row["image_id"], []).append(re.sub(r"\bcannot\b|\bgonna\b", "x", plain))
    images = list(of_image)[:600]
    references = {image: of_image[image][1:] for image in images}
    hypotheses = {image: of_image[after][0] for image, after in zip(images, images[3:] + images[:3], strict=True)}
    generator = np.random.default_rng(0)
    objects = {image: set(generator.choice(CATEGORIES, size=generator.integers(6))) for image in images}
    known = ImageObjects(objects, CHAIR_NAMES, "made up")
    found = score(hypotheses, references, names=["CHAIR", "CHAIR_references"], objects=known)
    expected = brute_force(hypotheses, references, objects, CHAIR_NAMES)
    alone = brute_force(hypotheses, references, dict.fromkeys(images, ()), CHAIR_NAMES)
    assert 0.3 < expected["CHAIR_s"] < 0.95
    assert found.corpus == pytest.approx(expected | dict(zip(OF_REFERENCES, alone.values(), strict=True)), abs=1e-12)
    intervals = bootstrap_intervals(found, samples=200)
    for name in SCORES:
        assert intervals[name].low < found.corpus[name] < intervals[name].high


def test_in_scenes_people_name_only_what_is_there(tmp_path: Path) -> None:
    """Their objects are known, so this is exact; a caption of another scene names what this scene has not."""
    config = ScenesConfig(root=str(tmp_path / "scenes"), val_size=60)
    dataset = add_objects(config, read_references(config, "val"))
    assert dataset.objects is not None
    captions = {image.image_id: image.captions[0] for image in dataset}
    nothing = {image.image_id: ["."] for image in dataset}
    honest = score(captions, nothing, names=["CHAIR"], objects=dataset.objects)
    assert (honest.corpus["CHAIR_s"], honest.corpus["CHAIR_i"]) == (0.0, 0.0)
    assert 0.6 < honest.corpus["Object_recall"] <= 1.0
    assert honest.signature["chair"]["names"] == "data set"
    ids = list(captions)
    shifted = {image: captions[other] for image, other in zip(ids, ids[1:] + ids[:1], strict=True)}
    names = {(phrase[0],): label for phrase, label in dataset.objects.names.items()}
    objects = {image.image_id: {box.label for box in image.boxes} for image in dataset}
    wrong = score(shifted, nothing, names=["CHAIR"], objects=dataset.objects).corpus
    assert wrong == pytest.approx(brute_force(shifted, {image: [] for image in ids}, objects, names), abs=1e-12)
    assert wrong["CHAIR_s"] > 0.5


def test_coco_s_instances_are_read_beside_its_captions(tmp_path: Path) -> None:
    """A category that the table lacks is named by itself and its plural; without the file there are no objects."""
    folder = tmp_path / "annotations"
    folder.mkdir()
    images = [{"id": number, "file_name": f"{number}.jpg"} for number in (7, 8)]
    captions = [{"image_id": number, "caption": "a photo"} for number in (7, 8)]
    (folder / "captions_val2017.json").write_text(json.dumps({"images": images, "annotations": captions}))
    config = CocoConfig(root=str(tmp_path))
    dataset = load_references(config, "val")
    assert add_objects(config, dataset).objects is None
    categories = [{"id": 1, "name": "person"}, {"id": 99, "name": "robot"}]
    boxes = [{"image_id": 7, "category_id": label, "bbox": [0, 0, 5, 5]} for label in (1, 99, 99)]
    (folder / "instances_val2017.json").write_text(json.dumps({"categories": categories, "annotations": boxes}))
    objects = add_objects(config, dataset).objects
    assert objects is not None
    assert dict(objects.labels) == {7: {"person", "robot"}, 8: frozenset()}
    found = score({7: "two robots and a woman", 8: "a robot"}, dataset.references, names=["CHAIR"], objects=objects)
    assert found.corpus == {"CHAIR_s": 0.5, "CHAIR_i": 1 / 3, "Object_recall": 1.0}
