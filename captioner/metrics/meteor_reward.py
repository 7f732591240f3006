"""METEOR of single captions as a training reward, to be added to CIDEr-D (`captioner.metrics.cider_reward`).

METEOR also rewards words that have the stem or the meaning of a reference's word, and recall more than precision. It
is computed from words, not token ids: references keep the words that the vocabulary lacks, and <END> is no word.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from captioner.metrics.cider_reward import check_equal_lengths, check_has_references
from captioner.metrics.coco_results import ImageId
from captioner.metrics.document_frequencies import Ids
from captioner.metrics.meteor.captions import Captions, join
from captioner.metrics.meteor.meteor import Meteor
from captioner.metrics.meteor.statistics import addable, scores
from captioner.metrics.ngrams import Floats
from captioner.metrics.ragged import ranges, starts_of


class MeteorReward:
    """METEOR of hypotheses, 0 to 1, against the references of a data set.

    An image's references are encoded on first use and cached (about 2 kB per image with five captions).
    """

    def __init__(
        self, meteor: Meteor, references: Mapping[ImageId, Sequence[str]], words_of: Callable[[Ids], Sequence[str]]
    ) -> None:
        """`references`: image id → one or more captions, tokens joined by spaces; `words_of`: token ids → tokens."""
        self.references = references
        self._meteor = meteor
        self._words_of = words_of
        self._cached: dict[ImageId, Captions] = {}

    def __call__(self, image_ids: Sequence[ImageId], hypotheses: Sequence[Ids]) -> Floats:
        """(H,) rewards: `hypotheses[i]` is a caption of `image_ids[i]`; an image may occur several times.

        Raises DataError for an image without references.
        """
        check_equal_lengths(image_ids, hypotheses)
        if not image_ids:
            return np.zeros(0)
        slots = {image_id: slot for slot, image_id in enumerate(dict.fromkeys(image_ids))}
        new = [image_id for image_id in slots if image_id not in self._cached]
        check_has_references(new, self.references)
        encode = self._meteor.lexicon.encode
        self._cached.update((image_id, encode(self.references[image_id])) for image_id in new)
        texts = [" ".join(self._words_of(hypothesis)) for hypothesis in hypotheses]
        index = {text: place for place, text in enumerate(dict.fromkeys(texts))}
        of_images = [self._cached[image_id] for image_id in slots]
        captions = join([*of_images, encode(list(index))])
        first = starts_of(np.array([len(image.lengths) for image in of_images]))
        slot = np.array([slots[image_id] for image_id in image_ids])
        counts = np.diff(first)[slot]
        places = first[-1] + np.array([index[text] for text in texts])
        statistics = self._meteor.best_statistics(captions, places, ranges(first[slot], counts), counts)
        return scores(addable(statistics))
