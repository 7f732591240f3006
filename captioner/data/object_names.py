"""What people call the objects whose boxes a data set has: from the words of a caption to the label of a box.

Of the scenes the table is the one their sentences are made from. COCO's categories are called by their names, their
plurals and the few other words below; what is said of other things as often (an orange car, a computer) is left out,
for a word that is wrongly taken for an object costs more than one that is missed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from captioner.data.dataset import CaptionDataset

Phrase = tuple[str, ...]

_MORE: dict[str, str] = {
    "person": "man men woman women boy boys girl girls child children kid kids people guy guys lady ladies "
    "player players skier skiers surfer surfers skateboarder skateboarders snowboarder snowboarders",
    "bicycle": "bike bikes",
    "motorcycle": "motorbike motorbikes",
    "airplane": "plane planes jet jets",
    "boat": "ship ships sailboat sailboats",
    "traffic light": "stoplight stoplights",
    "fire hydrant": "hydrant hydrants",
    "cat": "kitten kittens",
    "dog": "puppy puppies",
    "sheep": "sheep lamb lambs",
    "cow": "cattle",
    "handbag": "purse purses",
    "suitcase": "luggage",
    "sports ball": "ball balls",
    "baseball bat": "bat bats",
    "baseball glove": "glove gloves mitt",
    "tennis racket": "racket rackets racquet racquets",
    "cup": "mug mugs",
    "knife": "knives",
    "hot dog": "hotdog hotdogs",
    "donut": "doughnut doughnuts",
    "couch": "sofa sofas",
    "potted plant": "plant plants",
    "dining table": "table tables",
    "tv": "television televisions",
    "mouse": "mice",
    "cell phone": "phone phones cellphone cellphones",
    "refrigerator": "fridge fridges",
    "teddy bear": "teddy",
}
_TAKEN_OTHERWISE = {"orange"}  # a color


def object_names(dataset: CaptionDataset) -> dict[Phrase, str]:
    """Words, one or more, in lower case → the label of the boxes they name; for the labels that `dataset` has."""
    labels = dict.fromkeys(box.label for image in dataset for box in image.boxes)
    called = _called_in_scenes if dataset.name == "scenes" else _called_in_coco
    return {tuple(name.split()): label for label in labels for name in called(label) if name not in _TAKEN_OTHERWISE}


def named_objects(words: Sequence[str], names: dict[Phrase, str]) -> Iterator[tuple[slice, str]]:
    """(which words, the label they name) for each object that a caption names; of two names that fit the longer."""
    longest = max(map(len, names), default=0)
    place = 0
    while place < len(words):
        for length in range(min(longest, len(words) - place), 0, -1):
            label = names.get(tuple(words[place : place + length]))
            if label is not None:
                yield slice(place, place + length), label
                place += length
                break
        else:
            place += 1


def _called_in_scenes(label: str) -> list[str]:
    from captioner.data.synthetic.scenes.words import NOUNS  # brings what draws them

    return [name for noun in NOUNS[label].names for name in (noun.one, noun.several)]


def _called_in_coco(label: str) -> list[str]:
    plural = f"{label}es" if label.endswith(("s", "x", "ch", "sh")) else f"{label}s"
    return [label, plural, *_MORE.get(label, "").split()]
