"""Image retrieval by caption: recall@k and the median rank (Hodosh, Young & Hockenmaier 2013, section 5)."""

from __future__ import annotations

from collections.abc import Sequence

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


def retrieval_scores(similarity: ArrayLike, images: Sequence[int]) -> dict[str, float]:
    """`R@1`, `R@5`, `R@10`: the share of captions whose image is among the first k; and `median_rank`.

    similarity, images: see `ranks`.
    """
    found = ranks(similarity, images)
    scores = {f"R@{k}": float((found <= k).mean()) for k in RECALLS}
    return scores | {"median_rank": float(np.median(found))}
