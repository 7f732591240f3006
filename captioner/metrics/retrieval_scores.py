"""Retrieval of images by caption and of captions by image: recall@k and the median rank.

Hodosh, Young & Hockenmaier 2013, section 5.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import comb

import numpy as np
from numpy.typing import ArrayLike

from captioner.metrics.ngrams import Floats

RECALLS = (1, 5, 10)


def ranks(similarity: ArrayLike, images: Sequence[int]) -> Floats:
    """(N,) the rank of each caption's image among B images; 1 is the best.

    similarity: (N, B) of captions and images; images: (N,) the index of each caption's image. Among images with equal
    similarity it is ranked last, so that a model that cannot distinguish images gains nothing.
    """
    table = np.asarray(similarity, dtype=float)
    correct = table[np.arange(len(table)), np.asarray(images, dtype=int)]
    found: Floats = (table.shape[1] - (table < correct[:, None]).sum(axis=1)).astype(float)  # NaN is less than nothing
    return found


def ranks_of_own_captions(similarity: ArrayLike, images: Sequence[int]) -> Floats:
    """(B',) for each image with captions, in order: the rank of the first of its own captions among all N.

    similarity, images: see `ranks`. Captions of other images with an equal similarity come first.
    """
    table, owners = np.asarray(similarity, dtype=float).T, np.asarray(images, dtype=int)
    found = []
    for image in np.unique(owners):
        own = owners == image
        others = table[image][~own]
        found.append(1 + len(others) - int((others < table[image][own].max()).sum()))
    return np.array(found, dtype=float)


def retrieval_scores(similarity: ArrayLike, images: Sequence[int]) -> dict[str, float]:
    """`R@1`, `R@5`, `R@10`: the share of captions whose image is among the first k; and `median_rank`.

    similarity, images: see `ranks`.
    """
    return _summary(ranks(similarity, images))


def caption_retrieval_scores(similarity: ArrayLike, images: Sequence[int]) -> dict[str, float]:
    """The scores of `retrieval_scores`, of images that search for one of their captions."""
    return _summary(ranks_of_own_captions(similarity, images))


def chance_of_caption_retrieval(images: Sequence[int]) -> dict[str, float]:
    """The expected recalls of a random order of captions, and the first rank that half of the orders reach.

    Of N captions, r are the image's: P(none among the first k) = C(N − r, k) / C(N, k). images: see `ranks`.
    """
    count, own = len(images), Counter(images)

    def found_by(k: int) -> float:
        missed = [comb(count - r, k) / comb(count, k) if k <= count else 0.0 for r in own.values()]
        return 1 - sum(missed) / len(missed)

    median = next(k for k in range(1, count + 1) if found_by(k) >= 0.5)
    return {f"R@{k}": found_by(k) for k in RECALLS} | {"median_rank": float(median)}


def _summary(found: Floats) -> dict[str, float]:
    scores = {f"R@{k}": float((found <= k).mean()) for k in RECALLS}
    return scores | {"median_rank": float(np.median(found))}
