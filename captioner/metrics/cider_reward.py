"""CIDEr-D as a training reward: many small batches against one fixed corpus.

The score of a whole set (`captioner.metrics.cider`) takes its document frequencies from the set. A
reward needs fixed ones, from the training captions, so that it does not depend on the batch (Rennie et
al. 2017, section 3). Captions are the vocabulary's token ids. Whether <END> is among them is the
caller's choice, but it must be the same in the frequencies, the references and the hypotheses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from captioner.errors import DataError
from captioner.metrics.cider import SCALE, inverse_document_frequency, length_penalty
from captioner.metrics.coco_results import ImageId, listed
from captioner.metrics.document_frequencies import BITS, DocumentFrequencies, Ids, Keys, pack_ngrams
from captioner.metrics.ngrams import LONGEST, Floats, Indices, Integers
from captioner.metrics.ragged import ranges

NEVER = np.array([np.iinfo(np.uint64).max], np.uint64)  # a packed n-gram that does not exist
SHORTEST_OF_LENGTH = np.array([1 << BITS * n for n in range(1, LONGEST)], np.uint64)  # n = 2, 3, 4
SLOT_BITS = 40  # a key has an image's index in the batch above these bits, an n-gram's number below


class _References(NamedTuple):
    """The R references of one image. E entries, one per pair (n-gram, reference), sorted by n-gram.

    number, reference, times: (E,) int32: the n-gram's number, the reference that has it, and how often.
    norm: (R, 4) of the TF-IDF vectors for n = 1 … 4; length: (R,) words.
    """

    number: Indices
    reference: Indices
    times: Indices
    norm: Floats
    length: Integers


class _Counts(NamedTuple):
    """The n-grams of some captions. U different ones; E entries, one per pair (caption, n-gram).

    number: (U,) the n-gram's index in the corpus, or a higher number for n-grams that only references have; -1 for
        n-grams that no reference has. squared_idf: (U,). length_index: (U,) n - 1.
    caption, ngram, times: (E,) the caption, which of the U n-grams, and how often it has it.
    """

    number: Integers
    squared_idf: Floats
    length_index: Integers
    caption: Integers
    ngram: Integers
    times: Integers

    def norms(self, captions: int) -> Floats:
        """(captions, 4): the length of each caption's TF-IDF vectors for n = 1 … 4."""
        squares = self.times**2 * self.squared_idf[self.ngram]
        index = self.caption * LONGEST + self.length_index[self.ngram]
        norms: Floats = np.sqrt(np.bincount(index, squares, captions * LONGEST)).reshape(captions, LONGEST)
        return norms


class CiderReward:
    """CIDEr-D of hypotheses, with fixed document frequencies and the references of a data set.

    An image's references are counted on first use and cached (about 3 kB per image with five captions). The object
    has no global state, may be pickled (without its cache), and gives the same rewards in every process.
    """

    def __init__(self, frequencies: DocumentFrequencies, references: Mapping[ImageId, Sequence[Ids]]) -> None:
        """`references`: image id → one or more captions as token ids."""
        self.frequencies = frequencies
        self.references = references
        self._keys = np.append(frequencies.keys, NEVER)
        self._squared_idf = inverse_document_frequency(np.append(frequencies.counts, 0), frequencies.images) ** 2
        self._cached: dict[ImageId, _References] = {}
        self._not_in_corpus: dict[int, int] = {}  # n-grams that only references have → their number

    def __call__(self, image_ids: Sequence[ImageId], hypotheses: Sequence[Ids]) -> Floats:
        """(H,) rewards, 0 to 10: `hypotheses[i]` is a caption of `image_ids[i]`; an image may occur several times.

        Raises DataError for an image without references and for a token id out of range.
        """
        check_equal_lengths(image_ids, hypotheses)
        if not image_ids:
            return np.zeros(0)
        slots = {image_id: slot for slot, image_id in enumerate(dict.fromkeys(image_ids))}
        self._cache_references(image_id for image_id in slots if image_id not in self._cached)
        slot = np.fromiter(map(slots.__getitem__, image_ids), np.int64, len(image_ids))
        lengths = np.fromiter(map(len, hypotheses), np.int64, len(hypotheses))
        return self._compare(slot, self._count(hypotheses), lengths, [self._cached[image_id] for image_id in slots])

    def __reduce__(self) -> tuple[Any, ...]:
        return CiderReward, (self.frequencies, self.references)

    def _compare(self, slot: Integers, hypotheses: _Counts, lengths: Integers, images: Sequence[_References]) -> Floats:
        """(H,): H hypotheses, each against the references of the image in its slot: Q pairs in all."""
        references_of = np.array([len(image.length) for image in images])
        first_reference = np.cumsum(references_of) - references_of
        pairs_of = references_of[slot]
        first_pair = np.cumsum(pairs_of) - pairs_of
        pair_hypothesis = np.repeat(np.arange(len(slot)), pairs_of)
        pair_reference = ranges(first_reference[slot], pairs_of)

        # The entries of all references, by image, then n-gram; each hypothesis' n-grams are looked up in its image's.
        entries_of = np.array([len(image.number) for image in images])
        entry_number = np.concatenate([image.number for image in images])
        entry_key = entry_number | (np.repeat(np.arange(len(images)), entries_of) << SLOT_BITS)
        entry_times = np.concatenate([image.times for image in images])
        entry_reference = np.concatenate([image.reference for image in images])
        known = np.flatnonzero(hypotheses.number[hypotheses.ngram] >= 0)
        caption, ngram = hypotheses.caption[known], hypotheses.ngram[known]
        wanted = hypotheses.number[ngram] | (slot[caption] << SLOT_BITS)
        first_entry = np.searchsorted(entry_key, wanted, side="left")
        matches = np.searchsorted(entry_key, wanted, side="right") - first_entry

        # One row for each n-gram that a hypothesis and one of its references share.
        entry = ranges(first_entry, matches)
        caption, ngram = np.repeat(caption, matches), np.repeat(ngram, matches)
        in_reference = entry_times[entry]
        clipped = np.minimum(np.repeat(hypotheses.times[known], matches), in_reference)
        index = (first_pair[caption] + entry_reference[entry]) * LONGEST + hypotheses.length_index[ngram]
        products = clipped * in_reference * hypotheses.squared_idf[ngram]
        dot = np.bincount(index, products, len(pair_hypothesis) * LONGEST).reshape(-1, LONGEST)

        norms = np.concatenate([image.norm for image in images])[pair_reference]
        norms *= hypotheses.norms(len(slot))[pair_hypothesis]
        cosine = np.divide(dot, norms, out=np.zeros_like(norms), where=norms > 0).mean(axis=1)
        reference_length = np.concatenate([image.length for image in images])[pair_reference]
        cosine *= length_penalty(lengths[pair_hypothesis], reference_length)
        rewards: Floats = SCALE * np.add.reduceat(cosine, first_pair) / pairs_of
        return rewards

    def _cache_references(self, image_ids: Iterable[ImageId]) -> None:
        """Count the references of some images, all at once, and cache them by image."""
        image_ids = list(image_ids)
        if not image_ids:
            return
        check_has_references(image_ids, self.references)
        captions = [caption for image_id in image_ids for caption in self.references[image_id]]
        captions_of = np.array([len(self.references[image_id]) for image_id in image_ids])
        counts = self._count(captions, are_references=True)
        image_of = np.repeat(np.arange(len(image_ids)), captions_of)
        first_caption = np.cumsum(captions_of) - captions_of
        ngram_number, image = counts.number[counts.ngram], image_of[counts.caption]
        order = np.argsort(ngram_number | (image << SLOT_BITS))
        number = ngram_number[order].astype(np.int32)
        reference = (counts.caption - first_caption[image])[order].astype(np.int32)
        times = counts.times[order].astype(np.int32)
        norm = counts.norms(len(captions))
        length = np.fromiter(map(len, captions), np.int64, len(captions))
        entry_bounds = np.append(0, np.cumsum(np.bincount(image, minlength=len(image_ids)))).tolist()
        caption_bounds = np.append(first_caption, len(captions)).tolist()
        for index, image_id in enumerate(image_ids):
            entries = slice(entry_bounds[index], entry_bounds[index + 1])
            rows = slice(caption_bounds[index], caption_bounds[index + 1])
            self._cached[image_id] = _References(
                number[entries], reference[entries], times[entries], norm[rows], length[rows]
            )

    def _count(self, captions: Sequence[Ids], are_references: bool = False) -> _Counts:
        """Count n-grams. Only references give numbers to n-grams outside the corpus: nothing else can match them."""
        packed, caption = (np.concatenate(arrays) for arrays in zip(*pack_ngrams(captions), strict=True))
        different, ngram = np.unique(packed, return_inverse=True)
        position = np.searchsorted(self._keys, different)
        is_in_corpus = self._keys[position] == different
        squared_idf = self._squared_idf[np.where(is_in_corpus, position, len(self._squared_idf) - 1)]
        number = np.where(is_in_corpus, position, -1)
        if are_references or self._not_in_corpus:
            self._number_others(number, different, are_references)
        pair, times = np.unique(caption * max(1, len(different)) + ngram, return_counts=True)
        caption, ngram = np.divmod(pair, max(1, len(different)))
        length_index = np.searchsorted(SHORTEST_OF_LENGTH, different, side="right")
        return _Counts(number, squared_idf, length_index, caption, ngram, times)

    def _number_others(self, number: Integers, different: Keys, may_add: bool) -> None:
        """Fill in the numbers of n-grams that are not in the corpus."""
        for index in np.flatnonzero(number < 0).tolist():
            key = int(different[index])
            if may_add:
                number[index] = self._not_in_corpus.setdefault(key, len(self._keys) + len(self._not_in_corpus))
            else:
                number[index] = self._not_in_corpus.get(key, -1)


def check_equal_lengths(image_ids: Sequence[ImageId], hypotheses: Sequence[Ids]) -> None:
    """DataError unless there is one image id for each hypothesis."""
    if len(image_ids) != len(hypotheses):
        raise DataError(f"{len(hypotheses)} hypotheses for {len(image_ids)} image ids: expected one for each.")


def check_has_references(image_ids: Iterable[ImageId], references: Mapping[ImageId, Sequence[Any]]) -> None:
    """DataError if some of the (distinct) images have no reference; it names them."""
    without = [image_id for image_id in image_ids if not references.get(image_id)]
    if without:
        raise DataError(f"{len(without)} images have no references to compute a reward from: {listed(without)}.")
