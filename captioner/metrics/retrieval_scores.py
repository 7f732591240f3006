"""Images found by their captions: recall@k and the median rank (Hodosh, Young & Hockenmaier 2013, section 5)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from captioner.metrics.ngrams import Floats

RECALLS = (1, 5, 10)


def ranks(similarity: ArrayLike, images: Sequence[int]) -> Floats:
    """The place of each caption's own image among all, 1 the best: (N,).

    similarity: (N, B) of N captions and B images; images[n]: which of them caption n was written of. Of images
    with equal similarity the own one comes last, so that a model which cannot tell images apart gains nothing.
    """
    table = np.asarray(similarity, dtype=float)
    own = table[np.arange(len(table)), np.asarray(images, dtype=int)]
    places: Floats = (table.shape[1] - (table < own[:, None]).sum(axis=1)).astype(float)  # NaN is below nothing
    return places


def retrieval_scores(similarity: ArrayLike, images: Sequence[int]) -> dict[str, float]:
    """`R@1`, `R@5`, `R@10`: the share of captions whose own image is among the first k; `median_rank`."""
    places = ranks(similarity, images)
    scores = {f"R@{k}": float((places <= k).mean()) for k in RECALLS}
    return scores | {"median_rank": float(np.median(places))}
