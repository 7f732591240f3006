"""Does attention lie where the thing is that the word names?

For every word of a caption that names an object whose boxes are known, the share of the word's attention that lies
inside them: a grid cell's weight is spread evenly over the part of the image that the cell covers, so a box takes of
it what it covers of the cell, exactly. Two figures stand beside it:

    uniform    the same for attention that is everywhere alike: the share of the image that the boxes cover
    chance     the same for the attention of other images' naming words, their mean in the place of the word's own:
               what is gained by looking where things usually are, without looking at this image

Attention that may look away (adaptive) is taken per unit of what fell on the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray as Array

from captioner.errors import DataError
from captioner.metrics.bootstrap import Interval, image_draws, percentiles
from captioner.metrics.coco_results import ImageId

_NOTHING = 1e-12  # less attention than that has fallen on no image


@dataclass(frozen=True)
class NamingWord:
    """A word that names an object in its image, and where attention was while it was said.

    attention: (rows, columns) weights of the grid; boxes: (n, 4) left, top, right, bottom of all objects of that name,
    as fractions of the square that the encoder saw.
    """

    image_id: ImageId
    label: str
    attention: Float[Array, "rows columns"]
    boxes: Float[Array, "n 4"]


@dataclass(frozen=True)
class LabelGrounding:
    """Means over the words that name one kind of object."""

    label: str
    words: int
    attention: float
    uniform: float


@dataclass(frozen=True)
class Grounding:
    """Means over words, with percentile intervals over images.

    looking: how much of the words' attention fell on the image at all: 1 but for adaptive attention. missed: words
    that name an object which their image has no box of; they are in no mean.
    """

    attention: Interval
    uniform: Interval
    chance: Interval
    looking: float
    words: int
    images: int
    missed: int
    by_label: tuple[LabelGrounding, ...]  # the most frequent first

    @property
    def figures(self) -> dict[str, Interval]:
        """The three figures by the names they are reported under."""
        return {
            "Grounding": self.attention,
            "Grounding_chance": self.chance,
            "Grounding_uniform": self.uniform,
        }


def coverage(boxes: Float[Array, "n 4"], rows: int, columns: int) -> Float[Array, "rows columns"]:
    """The share of each grid cell that the boxes cover together, however they overlap.

    The edges of cells and boxes cut the square into rectangles, each of which lies wholly inside or outside.
    """
    x = np.unique(np.concatenate([np.arange(columns + 1) / columns, boxes[:, [0, 2]].ravel().clip(0, 1)]))
    y = np.unique(np.concatenate([np.arange(rows + 1) / rows, boxes[:, [1, 3]].ravel().clip(0, 1)]))
    across, down = (x[1:] + x[:-1]) / 2, (y[1:] + y[:-1]) / 2  # the rectangles' centres
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
    naming: Sequence[NamingWord], missed: int = 0, *, samples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> Grounding:
    """The figures for the words of at least two images, all with one grid; DataError for less."""
    images = sorted({word.image_id for word in naming}, key=lambda image_id: (str(image_id), isinstance(image_id, str)))
    if len(images) < 2:
        raise DataError(
            f"Grounding needs words that name an object with a box, in two images or more: there are {len(naming)} "
            f"in {len(images)} ({missed} more name what their image has no box of)."
        )
    row_of = {image_id: row for row, image_id in enumerate(images)}
    place = np.array([row_of[word.image_id] for word in naming])
    weights = np.stack([np.asarray(word.attention, dtype=np.float64) for word in naming])  # (words, rows, columns)
    looking = weights.sum(axis=(1, 2))
    weights /= np.maximum(looking, _NOTHING)[:, None, None]
    covered = np.stack([coverage(word.boxes, *weights.shape[1:]) for word in naming])
    counts = np.bincount(place).astype(np.float64)
    by_image = np.zeros((len(images), *weights.shape[1:]))
    np.add.at(by_image, place, weights)
    others = (by_image.sum(axis=0) - by_image) / (counts.sum() - counts)[:, None, None]
    shares = np.stack(
        [(covered * weights).sum(axis=(1, 2)), covered.mean(axis=(1, 2)), (covered * others[place]).sum(axis=(1, 2))]
    )
    sums = np.stack([np.bincount(place, weights=own) for own in shares], axis=1)  # (images, 3)
    drawn = np.concatenate([(d @ sums) / (d @ counts)[:, None] for d in image_draws(len(images), samples, seed)])
    means = shares.mean(axis=1)
    attention, uniform, chance = (
        Interval(float(mean), *percentiles(column, confidence)) for mean, column in zip(means, drawn.T, strict=True)
    )
    labels = [word.label for word in naming]
    return Grounding(
        attention=attention,
        uniform=uniform,
        chance=chance,
        looking=float(looking.mean()),
        words=len(naming),
        images=len(images),
        missed=missed,
        by_label=_by_label(labels, shares),
    )


def _by_label(labels: Sequence[str], shares: Float[Array, "3 words"]) -> tuple[LabelGrounding, ...]:
    each = []
    for label in dict.fromkeys(labels):
        own = shares[:, [other == label for other in labels]]
        each.append(LabelGrounding(label, own.shape[1], float(own[0].mean()), float(own[1].mean())))
    return tuple(sorted(each, key=lambda one: (-one.words, one.label)))


def grounding_record(found: Grounding) -> dict[str, object]:
    """What `metrics.json` holds of it, beside the three figures: counts, and each kind of object's means."""
    return {
        "words": found.words,
        "images": found.images,
        "named_without_a_box": found.missed,
        "looking": found.looking,
        "by_label": {
            one.label: {"words": one.words, "attention": one.attention, "uniform": one.uniform}
            for one in found.by_label
        },
    }


def format_grounding(found: Grounding, shown: int = 8) -> str:
    """A table for people."""
    lines = [
        f"Grounding: the share of attention inside the boxes of what a word names, over {found.words:,} words of "
        f"{found.images:,} images",
    ]
    said = ("attention", "another image's attention", "uniform: the boxes' area")
    for name, figure in zip(said, found.figures.values(), strict=True):
        lines.append(f"  {name:<28}{100 * figure.value:6.1f}   {100 * figure.low:.1f} – {100 * figure.high:.1f}")
    if found.looking < 0.9995:
        lines.append(f"  {100 * found.looking:.1f} % of their attention fell on the image, the rest on the sentinel")
    words = ", ".join(f"{o.label} {100 * o.attention:.0f} ({100 * o.uniform:.0f})" for o in found.by_label[:shown])
    lines.append(f"  by object, uniform in brackets: {words}")
    if found.missed:
        lines.append(f"  {found.missed:,} words name what their image has no box of")
    return "\n".join(lines)
