"""BLEU-4 of single captions as a training reward, beside CIDEr-D (`captioner.metrics.reward`).

CIDEr-D likes the n-grams that few pictures have, BLEU those that people agree on: a reward of both asks for captions
that are right word by word and still say what is in this picture. BLEU proper is a figure of a whole corpus; a reward
is one of a caption, so it is smoothed (`captioner.metrics.bleu.smoothed_bleu`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from captioner.errors import DataError
from captioner.metrics.bleu import bleu_statistics, smoothed_bleu
from captioner.metrics.document_frequencies import Ids
from captioner.metrics.ngrams import Floats, count_ngrams, encode
from captioner.metrics.results import ImageId, listed


class BleuReward:
    """Smoothed BLEU-4 of hypotheses, 0 to 1, against the references of a data set; captions are token ids."""

    def __init__(self, references: Mapping[ImageId, Sequence[Ids]]) -> None:
        """`references`: image id → one or more captions."""
        self.references = references

    def __call__(self, image_ids: Sequence[ImageId], hypotheses: Sequence[Ids]) -> Floats:
        """(H,) rewards: `hypotheses[i]` describes `image_ids[i]`; an image may stand several times.

        An image that has no references is a DataError.
        """
        if len(image_ids) != len(hypotheses):
            raise DataError(f"{len(hypotheses)} hypotheses for {len(image_ids)} image ids: expected one for each.")
        if not image_ids:
            return np.zeros(0)
        without = [image_id for image_id in dict.fromkeys(image_ids) if not self.references.get(image_id)]
        if without:
            raise DataError(f"{len(without)} images have no references to compute a reward from: {listed(without)}.")
        table = encode(hypotheses, [self.references[image_id] for image_id in image_ids])
        rewards: Floats = smoothed_bleu(bleu_statistics(table, count_ngrams(table)))[:, -1]
        return rewards
