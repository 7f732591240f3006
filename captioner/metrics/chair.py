"""CHAIR: the share of objects that captions name and images do not have (Rohrbach et al. 2018, section 2.2).

    CHAIR_i = objects named that are not in the image / objects named
    CHAIR_s = captions that name an object which is not in the image / captions
    Object_recall = objects in the image that its caption names / objects in the image

A mention counts as often as it occurs in CHAIR_i, and once in Object_recall; both are ratios of sums over all images.
As in the paper, an image has the objects that are annotated and those that one of its references names. Where objects
are not annotated, the metric `CHAIR_references` takes the references alone, and calls its scores so: what five people
left out then counts as invented, so these values are higher.

Words are mapped to objects by `captioner.text.coco_objects`, or by the table of the data set. That table is our own;
the authors' values come from theirs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

import numpy as np

from captioner.metrics.java import MetricUnavailable
from captioner.metrics.metric import Metric, MetricResult, TokenizedCaptions
from captioner.metrics.ngrams import Floats, Integers
from captioner.text.coco_objects import CHAIR_NAMES, TABLE_VERSION
from captioner.text.object_words import Phrase, labels_named

SCORES = ("CHAIR_s", "CHAIR_i", "Object_recall")
OF_REFERENCES = tuple(f"{score} (references)" for score in SCORES)


def chair_counts(
    captions: TokenizedCaptions, objects: list[Collection[str]], names: Mapping[Phrase, str | None]
) -> Integers:
    """(I, 5) per image: a hallucinated object is named (0 or 1); hallucinated and all mentions; objects found and all.

    objects: (I,) those in each image.
    """
    rows = []
    for caption, in_image in zip(captions.hypotheses, objects, strict=True):
        mentions = labels_named(caption, names)
        wrong = sum(label not in in_image for label in mentions)
        rows.append((wrong > 0, wrong, len(mentions), len(set(mentions) & set(in_image)), len(set(in_image))))
    return np.array(rows, dtype=np.int64)


def _compute(captions: TokenizedCaptions, *, annotated: bool) -> MetricResult:
    names: Mapping[Phrase, str | None] = CHAIR_NAMES if captions.object_names is None else captions.object_names
    named = [{label for one in of_image for label in labels_named(one, names)} for of_image in captions.references]
    scores = SCORES if annotated else OF_REFERENCES
    objects: list[Collection[str]] = list(named)
    if annotated:
        if captions.objects is None:
            raise MetricUnavailable(
                "CHAIR needs to know the objects in the images: put COCO's instances_*.json beside the captions in "
                "annotations/ (`data download coco --parts annotations` gets them). metric.names=[CHAIR_references] "
                "takes the objects that the references name instead."
            )
        objects = [of_image | set(known) for of_image, known in zip(named, captions.objects, strict=True)]
    counts = chair_counts(captions, objects, names)
    result = MetricResult(
        per_image={scores[0]: counts[:, 0].astype(np.float64)},
        statistics=counts,
        signature={
            "objects": f"{captions.objects_source} and the references" if annotated else "the references",
            "names": f"COCO {TABLE_VERSION}, of captioner"
            if captions.object_names in (None, CHAIR_NAMES)
            else "data set",
        },
    )
    for score, (part, whole) in zip(scores[1:], counts.sum(axis=0)[1:].reshape(2, 2).tolist(), strict=True):
        if whole:
            result.corpus[score] = part / whole
        else:
            of = "caption names" if score is scores[1] else "image has"
            result.unavailable[score] = f"no {of} one of the {len(set(names.values()) - {None})} objects of the table"
    return result


def _resample(statistics: Any, rows: Integers, weights: Floats, *, scores: tuple[str, ...]) -> dict[str, Floats]:
    """A sample without a mention or an object, which few images can give, has the value 0."""
    sums = weights @ statistics[rows][:, 1:]
    return {
        score: np.divide(part, whole, out=np.zeros(len(sums)), where=whole > 0)
        for score, part, whole in zip(scores[1:], sums.T[::2], sums.T[1::2], strict=True)
        if statistics[:, 2 if score is scores[1] else 4].any()
    }


METRIC = Metric(
    partial(_compute, annotated=True),
    scores=SCORES,
    lower_is_better=SCORES[:2],
    needs_objects=True,
    resample=partial(_resample, scores=SCORES),
)
METRIC_REFERENCES = Metric(
    partial(_compute, annotated=False),
    scores=OF_REFERENCES,
    lower_is_better=OF_REFERENCES[:2],
    needs_objects=True,  # for the data set's words: the value must not depend on whether CHAIR is computed, too
    resample=partial(_resample, scores=OF_REFERENCES),
)
