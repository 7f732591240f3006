"""Finds the objects that a caption names, by the labels of a data set's boxes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from captioner.data.dataset import CaptionDataset

Phrase = tuple[str, ...]


def object_names(dataset: CaptionDataset) -> dict[Phrase, str]:
    """Phrase of lower-case words → the label that it names, for the labels of the boxes in `dataset`.

    The phrases are those of `dataset.label_names`. A label that is not listed there is named by itself and its plural.
    """
    labels = dict.fromkeys(box.label for image in dataset for box in image.boxes)
    return {
        tuple(name.split()): label
        for label in labels
        for name in dataset.label_names.get(label, (label, plural(label)))
    }


def named_objects(words: Sequence[str], names: dict[Phrase, str]) -> Iterator[tuple[slice, str]]:
    """(slice of `words`, label) for each object that a caption names; the longest phrase wins."""
    longest = max(map(len, names), default=0)
    position = 0
    while position < len(words):
        for length in range(min(longest, len(words) - position), 0, -1):
            label = names.get(tuple(words[position : position + length]))
            if label is not None:
                yield slice(position, position + length), label
                position += length
                break
        else:
            position += 1


def plural(noun: str) -> str:
    """The regular English plural."""
    return f"{noun}es" if noun.endswith(("s", "x", "ch", "sh")) else f"{noun}s"
