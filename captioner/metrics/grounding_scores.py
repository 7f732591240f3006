"""Grounding: the share of attention inside the boxes of the object that a word names.

It is computed for every word of a caption that names an object whose boxes are known. The weight of a grid region is
spread evenly over the part of the image that the region covers, so a box receives exactly the share of the region
that it covers. Two baselines:

    uniform    for uniform attention: the share of the image that the boxes cover
    chance     for the mean attention of the object words of all other images: what is gained by attending to where
               objects usually are, without seeing this image

Adaptive attention, which may attend to the sentinel instead of the image, is normalized to the image's share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray as Array

from captioner.errors import DataError
from captioner.metrics.bootstrap import Interval, image_weights, percentiles
from captioner.metrics.coco_results import ImageId

_MIN_ATTENTION = 1e-12  # of a word on the image; avoids a division by zero


class TooFewObjectWordsError(DataError):
    """Words of fewer than two images name an object with a box: there is no grounding to measure."""


@dataclass(frozen=True)
class ObjectWord:
    """A word that names an object in its image, and the attention while it was generated.

    attention: (rows, columns) weights of the grid; boxes: (n, 4) left, top, right, bottom of all objects of this label,
    as fractions of the square that the encoder reads.
    """

    image_id: ImageId
    label: str
    attention: Float[Array, "rows columns"]
    boxes: Float[Array, "n 4"]


@dataclass(frozen=True)
class LabelGrounding:
    """Means over the words that name objects of one label."""

    label: str
    words: int
    attention: float
    uniform: float


@dataclass(frozen=True)
class Grounding:
    """Means over words, with percentile intervals over images.

    image_share: the share of the words' attention on the image: 1 except for adaptive attention. without_box: the
    number of words that name an object of which their image has no box; they are in no mean.
    """

    attention: Interval
    uniform: Interval
    chance: Interval
    image_share: float
    words: int
    images: int
    without_box: int
    by_label: tuple[LabelGrounding, ...]  # the most frequent first

    @property
    def scores(self) -> dict[str, Interval]:
        """The three scores by the names under which they are reported."""
        return {
            "Grounding": self.attention,
            "Grounding_chance": self.chance,
            "Grounding_uniform": self.uniform,
        }


def coverage(boxes: Float[Array, "n 4"], rows: int, columns: int) -> Float[Array, "rows columns"]:
    """The share of each grid region that the union of the boxes covers.

    The edges of regions and boxes cut the square into rectangles, each of which is completely inside or outside.
    """
    x = np.unique(np.concatenate([np.arange(columns + 1) / columns, boxes[:, [0, 2]].ravel().clip(0, 1)]))
    y = np.unique(np.concatenate([np.arange(rows + 1) / rows, boxes[:, [1, 3]].ravel().clip(0, 1)]))
    across, down = (x[1:] + x[:-1]) / 2, (y[1:] + y[:-1]) / 2  # the rectangles' centers
    inside = np.zeros((len(down), len(across)), dtype=bool)
    for left, top, right, bottom in boxes:
        inside |= np.outer((top < down) & (down < bottom), (left < across) & (across < right))
    areas = inside * np.outer(np.diff(y), np.diff(x))
    share = np.zeros((rows, columns))
    row_of = np.minimum((down * rows).astype(int), rows - 1)
    column_of = np.minimum((across * columns).astype(int), columns - 1)
    np.add.at(share, np.ix_(row_of, column_of), areas)
    return share * rows * columns


def grounding(
    object_words: Sequence[ObjectWord],
    without_box: int = 0,
    *,
    samples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Grounding:
    """The grounding of `object_words`, which are of one grid size. TooFewObjectWordsError for fewer than two images.

    without_box: number of words without a box, to be reported. samples, confidence, seed: of the bootstrap.
    """
    images = sorted(
        {word.image_id for word in object_words}, key=lambda image_id: (str(image_id), isinstance(image_id, str))
    )
    if len(images) < 2:
        raise TooFewObjectWordsError(
            f"Grounding needs words that name an object with a box, in two images or more: there are "
            f"{len(object_words)} in {len(images)} ({without_box} more name an object of which their image has no box)."
        )
    row_of = {image_id: index for index, image_id in enumerate(images)}
    row = np.array([row_of[word.image_id] for word in object_words])
    weights = np.stack(
        [np.asarray(word.attention, dtype=np.float64) for word in object_words]
    )  # (words, rows, columns)
    image_share = weights.sum(axis=(1, 2))
    weights /= np.maximum(image_share, _MIN_ATTENTION)[:, None, None]
    covered = np.stack([coverage(word.boxes, *weights.shape[1:]) for word in object_words])
    counts = np.bincount(row).astype(np.float64)
    by_image = np.zeros((len(images), *weights.shape[1:]))
    np.add.at(by_image, row, weights)
    others = (by_image.sum(axis=0) - by_image) / (counts.sum() - counts)[:, None, None]
    shares = np.stack(
        [(covered * weights).sum(axis=(1, 2)), covered.mean(axis=(1, 2)), (covered * others[row]).sum(axis=(1, 2))]
    )
    sums = np.stack([np.bincount(row, weights=share) for share in shares], axis=1)  # (images, 3)
    resampled = np.concatenate([(w @ sums) / (w @ counts)[:, None] for w in image_weights(len(images), samples, seed)])
    means = shares.mean(axis=1)
    attention, uniform, chance = (
        Interval(float(mean), *percentiles(column, confidence)) for mean, column in zip(means, resampled.T, strict=True)
    )
    labels = [word.label for word in object_words]
    return Grounding(
        attention=attention,
        uniform=uniform,
        chance=chance,
        image_share=float(image_share.mean()),
        words=len(object_words),
        images=len(images),
        without_box=without_box,
        by_label=_by_label(labels, shares),
    )


def _by_label(labels: Sequence[str], shares: Float[Array, "3 words"]) -> tuple[LabelGrounding, ...]:
    """The means of each label, the most frequent label first."""
    found = []
    for label in dict.fromkeys(labels):
        of_label = shares[:, [other == label for other in labels]]
        found.append(LabelGrounding(label, of_label.shape[1], float(of_label[0].mean()), float(of_label[1].mean())))
    return tuple(sorted(found, key=lambda grounded: (-grounded.words, grounded.label)))


def grounding_record(found: Grounding) -> dict[str, object]:
    """The entry `grounding` of `metrics.json`, beside the three scores: counts, and the means of each label."""
    return {
        "words": found.words,
        "images": found.images,
        "words_without_box": found.without_box,
        "image_share": found.image_share,
        "by_label": {
            grounded.label: {
                "words": grounded.words,
                "attention": grounded.attention,
                "uniform": grounded.uniform,
            }
            for grounded in found.by_label
        },
    }


def format_grounding(found: Grounding, max_labels: int = 8) -> str:
    """The scores as a text table, and the means of the most frequent labels."""
    lines = [
        f"Grounding: the share of attention inside the boxes of the object that a word names, over {found.words:,} "
        f"words of {found.images:,} images",
    ]
    titles = ("attention", "another image's attention", "uniform: the boxes' area")
    for title, score in zip(titles, found.scores.values(), strict=True):
        lines.append(f"  {title:<28}{100 * score.value:6.1f}   {100 * score.low:.1f} – {100 * score.high:.1f}")
    if found.image_share < 0.9995:
        lines.append(f"  {100 * found.image_share:.1f} % of their attention is on the image, the rest on the sentinel")
    labels = ", ".join(
        f"{grounded.label} {100 * grounded.attention:.0f} ({100 * grounded.uniform:.0f})"
        for grounded in found.by_label[:max_labels]
    )
    lines.append(f"  by object, uniform in brackets: {labels}")
    if found.without_box:
        lines.append(f"  {found.without_box:,} words name an object of which their image has no box")
    return "\n".join(lines)
