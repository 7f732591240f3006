"""Finds the objects that a caption names: the longest phrase of a table wins at each word."""

from __future__ import annotations

import re
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

Phrase = tuple[str, ...]
LabelT = TypeVar("LabelT", bound="str | None")


@dataclass(frozen=True)
class ImageObjects:
    """The objects of images, from annotations.

    labels: image id → the labels of its objects. names: phrase of lower-case words → the label that it names, or None
    for a phrase that names no object, such as "train tracks". source: what the annotations are, for a reader.
    """

    labels: Mapping[Hashable, Collection[str]]
    names: Mapping[Phrase, str | None]
    source: str


def named_objects(words: Sequence[str], names: Mapping[Phrase, LabelT]) -> Iterator[tuple[slice, LabelT]]:
    """(slice of `words`, label) for each phrase of `names` in a caption; the longest phrase wins."""
    longest = max(map(len, names), default=0)
    position = 0
    while position < len(words):
        for length in range(min(longest, len(words) - position), 0, -1):
            phrase = tuple(words[position : position + length])
            if phrase in names:
                yield slice(position, position + length), names[phrase]
                position += length
                break
        else:
            position += 1


def labels_named(caption: Sequence[str], names: Mapping[Phrase, str | None]) -> list[str]:
    """The label of every object that a caption names, in order and with repetitions.

    caption: tokens. Case is ignored, and a hyphen separates words: "Teddy-bears" are two words.
    """
    words = [word for token in caption for word in re.split(r"[\s-]+", token.lower()) if word]
    return [label for _, label in named_objects(words, names) if label is not None]


def phrases(label_names: Mapping[str, Sequence[str]]) -> dict[Phrase, str | None]:
    """Phrase → label, from label → the words and phrases that name it."""
    return {tuple(name.split()): label for label, names in label_names.items() for name in names}


def plural(noun: str) -> str:
    """The regular English plural."""
    return f"{noun}es" if noun.endswith(("s", "x", "ch", "sh")) else f"{noun}s"
