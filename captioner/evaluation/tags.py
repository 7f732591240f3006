"""The things that an encoder's classifier sees in images, in everyday words and with their places.

NumPy only: torch and onnxruntime compute the classifier, and this reads what it says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from captioner.text.class_words import TEMPERATURE, Tag, concept_probabilities, concepts, sharpen

if TYPE_CHECKING:
    from jaxtyping import Float

LEAST = 0.1  # probability of a tag
MOST = 5  # tags of an image

RegionLogits: TypeAlias = Callable[[int, Sequence[int]], np.ndarray]
"""The position of an image and C classes → their logits in each region, (C, rows, columns)."""


def tags_of(probabilities: Float[np.ndarray, "B 1000"], region_logits: RegionLogits) -> list[tuple[Tag, ...]]:
    """The tags of each image: the concepts with a probability of 0.1 or more, at most five, the most probable first.

    probabilities: softmax(logits) of the classifier. Of several concepts that the same class makes probable (pizza,
    food), each is a tag.
    """
    classes = sharpen(probabilities)
    of_images = enumerate(zip(concept_probabilities(classes), classes, strict=True))
    return [_tags_of_image(image, *of_image, region_logits) for image, of_image in of_images]


def tag_table() -> dict[str, Any]:
    """All that makes probabilities of classes tags, as JSON values, for the page without a server."""
    return {
        "temperature": TEMPERATURE,
        "least": LEAST,
        "most": MOST,
        "concepts": [{"word": concept.word, "classes": concept.classes} for concept in concepts()],
    }


def _tags_of_image(
    image: int, of_concepts: np.ndarray, of_classes: np.ndarray, region_logits: RegionLogits
) -> tuple[Tag, ...]:
    """The tags of one image, from the probabilities of its concepts and classes."""
    chosen = [index for index in np.argsort(-of_concepts, kind="stable").tolist() if of_concepts[index] >= LEAST][:MOST]
    if not chosen:
        return ()
    main = [max(concepts()[index].classes, key=lambda number: of_classes[number]) for index in chosen]
    regions = region_logits(image, main)
    _, rows, columns = regions.shape
    peaks = regions.reshape(len(main), -1).argmax(axis=1).tolist()
    return tuple(
        Tag(concepts()[index].word, float(of_concepts[index]), divmod(peak, columns), (rows, columns))
        for index, peak in zip(chosen, peaks, strict=True)
    )
