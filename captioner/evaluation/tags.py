"""The things that an encoder's classifier sees in images, in everyday words and with their places."""

from __future__ import annotations

import numpy as np

from captioner.nn.encoders.class_head import ClassScores
from captioner.text.class_words import Tag, concept_probabilities, concepts, sharpen

LEAST = 0.1  # probability of a tag
MOST = 5  # tags of an image


def tags_of(scores: ClassScores) -> list[tuple[Tag, ...]]:
    """The tags of each image: the concepts with a probability of 0.1 or more, at most five, the most probable first.

    Of several concepts that the same class makes probable (pizza, food), each is a tag.
    """
    classes = sharpen(scores.probabilities.float().cpu().numpy())
    return [
        _tags_of_image(of_concepts, of_classes, scores.image(index))
        for index, (of_concepts, of_classes) in enumerate(zip(concept_probabilities(classes), classes, strict=True))
    ]


def _tags_of_image(of_concepts: np.ndarray, of_classes: np.ndarray, scores: ClassScores) -> tuple[Tag, ...]:
    """The tags of one image, from the probabilities of its concepts and classes."""
    chosen = [index for index in np.argsort(-of_concepts, kind="stable").tolist() if of_concepts[index] >= LEAST][:MOST]
    if not chosen:
        return ()
    main = [max(concepts()[index].classes, key=lambda number: of_classes[number]) for index in chosen]
    regions = scores.region_logits(main)[0]
    columns = regions.shape[2]
    peaks = regions.flatten(1).argmax(1).tolist()
    return tuple(
        Tag(concepts()[index].word, float(of_concepts[index]), divmod(peak, columns))
        for index, peak in zip(chosen, peaks, strict=True)
    )
