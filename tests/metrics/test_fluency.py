"""The metric Fluency: what it flags, where its statistics come from, and its false alarms on human captions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from captioner.config import Flickr8kConfig
from captioner.data.datasets.registry import load_dataset
from captioner.metrics import score
from captioner.metrics.bootstrap import paired_bootstrap
from captioner.metrics.fluency import FEWEST_CAPTIONS, FluencyChecker
from captioner.metrics.format import signature_line
from captioner.text import ptb_tokenize

PATTERNS = ("a {0} sits on a red bench", "a {0} is playing with a {1}", "the {1} and the {0}", "a red {1} on a bench")
THINGS = ("dog", "cat", "ball", "man", "boy", "horse", "child", "girl")
TRAINING = [pattern.format(a, b) for a in THINGS for b in THINGS if a != b for pattern in PATTERNS for _ in range(12)]
REFERENCES = {"1": ["a dog sits on a red bench"], "2": ["a cat is playing with a ball"], "3": ["the man and the dog"]}
CLEAN = {"1": "a cat sits on a red bench", "2": "a boy is playing with a ball", "3": "the ball and the cat"}
BROKEN = {"1": "a cat sits on a bench", "2": "a boy and a boy is playing with a", "3": "the the ball and the cat"}


def test_flags_captions_and_says_why() -> None:
    scores = score(BROKEN, REFERENCES, names=["Fluency"], training_captions=TRAINING)
    rows = scores.per_image
    assert [rows[image]["Implausible"] for image in "123"] == [1, 1, 1]
    assert rows["1"]["Implausible_unseen"] == 1  # "sits on a" is always followed by "red", "a bench" by the end
    assert rows["2"]["Implausible_doubled"] == rows["2"]["Implausible_ending"] == 1
    assert rows["3"]["Implausible_doubled"] == 1
    assert rows["1"]["Implausible_doubled"] == rows["1"]["Implausible_ending"] == 0
    assert scores.corpus["Implausible"] == 1
    assert scores.corpus["Implausible_doubled"] == pytest.approx(2 / 3)


def test_passes_what_people_write() -> None:
    scores = score(CLEAN, REFERENCES, names=["Fluency"], training_captions=TRAINING)
    assert scores.corpus["Implausible"] == 0


def test_comparison_of_two_systems() -> None:
    of = [score(captions, REFERENCES, names=["Fluency"], training_captions=TRAINING) for captions in (CLEAN, BROKEN)]
    compared = paired_bootstrap(*of)["Implausible"]
    assert (compared.first, compared.second, compared.difference) == (0, 1, 1)


def test_the_signature_names_the_statistics() -> None:
    given = score(CLEAN, REFERENCES, names=["Fluency"], training_captions=TRAINING)
    assert given.signature["fluency"]["statistics"] == "training captions"
    assert f"phrases of {len(TRAINING)} training captions" in signature_line(given)
    shuffled = score(CLEAN, REFERENCES, names=["Fluency"], training_captions=TRAINING[::-1])
    assert shuffled.signature == given.signature
    other = score(CLEAN, REFERENCES, names=["Fluency"], training_captions=TRAINING[:-1])
    assert other.signature["fluency"] != given.signature["fluency"]
    assert "fluency" not in score(CLEAN, REFERENCES).signature


def test_references_replace_training_captions() -> None:
    many = {image: [*captions, *TRAINING] for image, captions in REFERENCES.items()}
    scores = score(BROKEN, many, names=["Fluency"])
    assert scores.signature["fluency"]["statistics"] == "these references"
    assert scores.corpus["Implausible"] == 1


def test_too_few_captions_give_no_score() -> None:
    scores = score(BROKEN, REFERENCES, names=["Fluency"], training_captions=TRAINING[: FEWEST_CAPTIONS - 1])
    assert "Implausible" not in scores.corpus
    assert f"at least {FEWEST_CAPTIONS} captions, but there are 1999 training" in scores.unavailable["Implausible"]


def test_phrases_are_given_in_words() -> None:
    checker = FluencyChecker([caption.split() for caption in TRAINING])
    found = checker.find(["the", "zebra", "and", "the", "zebra", "with", "a"])
    assert ("doubled", "the zebra and the zebra") in found
    assert ("ending", "with a <END>") in found
    assert checker.find(["zebra", "okapi", "quagga"]) == []  # unknown words differ from each other


BROKEN_BY_HAND = [
    "a baseball player is playing in the ball",
    "a man and a man are standing in front of a building",
    "a boy in a canoe is sitting in the water in the water",
    "a young boy in a blue shirt is running on a dirt",
    "a group of children are standing on a park",
    "a man wearing a black shirt is a a blue slide",
    "two dogs are playing in a",
]


@pytest.mark.slow
def test_false_alarms_on_people_of_flickr8k(real_data: Path) -> None:
    config = Flickr8kConfig(root=str(real_data / "flickr8k"))
    train, dev = (load_dataset(config, split).all_captions for split in ("train", "val"))
    checker = FluencyChecker([ptb_tokenize(caption) for caption in train])
    flagged = sum(bool(checker.kinds(ptb_tokenize(caption))) for caption in dev)
    assert flagged / len(dev) <= 0.02
    for caption in BROKEN_BY_HAND:
        assert checker.kinds(caption.split()), caption


@pytest.mark.slow
def test_false_alarms_on_people_of_coco(real_data: Path) -> None:
    records = json.loads((real_data / "coco_text/captions_val2017.json").read_text())["annotations"]
    held_out = [record["image_id"] % 5 == 0 for record in records]
    words = [ptb_tokenize(record["caption"]) for record in records]
    checker = FluencyChecker([caption for caption, out in zip(words, held_out, strict=True) if not out])
    others = [caption for caption, out in zip(words, held_out, strict=True) if out]
    assert sum(bool(checker.kinds(caption)) for caption in others) / len(others) <= 0.02
