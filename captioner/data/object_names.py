"""Finds the objects that a caption names, by the labels of a data set's boxes."""

from __future__ import annotations

from captioner.data.dataset import CaptionDataset
from captioner.text.object_words import Phrase, plural
from captioner.text.object_words import named_objects as named_objects


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
