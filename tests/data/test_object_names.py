"""The objects that a caption names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from captioner.data.dataset import Box, CaptionDataset, CaptionedImage
from captioner.data.datasets.coco_categories import LABEL_NAMES
from captioner.data.object_names import named_objects, object_names
from captioner.data.synthetic.scenes.generate_scenes import _LABEL_NAMES
from captioner.data.synthetic.scenes.words import NOUNS


def dataset(label_names: Mapping[str, Sequence[str]], *labels: str) -> CaptionDataset:
    boxes = tuple(Box(label, 0, 0, 1, 1) for label in labels)
    return CaptionDataset(
        "boxes", "val", (CaptionedImage(1, Path("1.jpg"), ("a dog",), boxes),), label_names=label_names
    )


COCO = object_names(
    dataset(
        LABEL_NAMES, "person", "bench", "hot dog", "dog", "teddy bear", "bear", "orange", "fire hydrant", "cow", "bus"
    )
)


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("a man and two dogs on a bench", [("man", "person"), ("dogs", "dog"), ("bench", "bench")]),
        ("a hot dog and a dog", [("hot dog", "hot dog"), ("dog", "dog")]),
        ("teddy bears next to a bear", [("teddy bears", "teddy bear"), ("bear", "bear")]),
        ("an orange hydrant", [("hydrant", "fire hydrant")]),
        ("benches , buses and oranges", [("benches", "bench"), ("buses", "bus"), ("oranges", "orange")]),
        ("a cat on a sofa", []),  # no box of this data set has this label
        ("", []),
    ],
)
def test_coco_s_categories(caption: str, expected: list[tuple[str, str]]) -> None:
    words = caption.split()
    assert [(" ".join(words[where]), label) for where, label in named_objects(words, COCO)] == expected


def test_every_name_of_an_object_in_the_scenes() -> None:
    names = object_names(dataset(_LABEL_NAMES, *NOUNS))
    for label, noun in NOUNS.items():
        for name in noun.names:
            assert names[(name.one,)] == names[(name.several,)] == label


def test_without_boxes_there_are_no_names() -> None:
    assert object_names(dataset(LABEL_NAMES)) == {}
    assert list(named_objects(["a", "dog"], {})) == []
