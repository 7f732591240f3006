"""BLEU-4 of single captions as a training reward, to be added to CIDEr-D (`captioner.metrics.cider_reward`).

CIDEr-D rewards n-grams that are rare among images, BLEU n-grams that several references share: their sum asks for
captions that are fluent and specific to the image. BLEU is a score of a whole corpus; a reward is the score of one
caption, so it is smoothed (`captioner.metrics.bleu.smoothed_bleu`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from captioner.metrics.bleu import bleu_statistics, smoothed_bleu
from captioner.metrics.cider_reward import check_equal_lengths, check_has_references
from captioner.metrics.coco_results import ImageId
from captioner.metrics.document_frequencies import Ids
from captioner.metrics.ngrams import Floats, count_ngrams, encode


class BleuReward:
    """Smoothed BLEU-4 of hypotheses, 0 to 1, against the references of a data set; captions are token ids."""

    def __init__(self, references: Mapping[ImageId, Sequence[Ids]]) -> None:
        """`references`: image id → one or more captions."""
        self.references = references

    def __call__(self, image_ids: Sequence[ImageId], hypotheses: Sequence[Ids]) -> Floats:
        """(H,) rewards: `hypotheses[i]` is a caption of `image_ids[i]`; an image may occur several times.

        Raises DataError for an image without references.
        """
        check_equal_lengths(image_ids, hypotheses)
        if not image_ids:
            return np.zeros(0)
        check_has_references(dict.fromkeys(image_ids), self.references)
        table = encode(hypotheses, [self.references[image_id] for image_id in image_ids])
        rewards: Floats = smoothed_bleu(bleu_statistics(table, count_ngrams(table)))[:, -1]
        return rewards
