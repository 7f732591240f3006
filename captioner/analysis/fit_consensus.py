"""Fits a consensus predictor (`captioner.decode.consensus`) to the image vectors and captions of training images.

The target of the regression is each image's mean vector m of unit TF-IDF vectors. Its features x are the image vector's
F largest principal components, each scaled to variance 1, and then the whole to length 1. The ridge α and the reported
figures come from every tenth image (at most 1,000), which are left out for them; then all images are used.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
from jaxtyping import Float, Float32, Int, Int64, Integer, UInt16

from captioner.data.token_ids import EncodedCaptions
from captioner.decode.consensus import LONGEST, ConsensusPredictor, ConsensusRecord
from captioner.decode.quantized_rows import QuantizedRows
from captioner.errors import DataError
from captioner.metrics.document_frequencies import BITS, pack_ngrams

RIDGES = (1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
HELD_OUT, MOST_HELD_OUT = 10, 1000  # every tenth image, but of larger sets only so many
LEAST_IMAGES = 100
PROJECTION_BITS = {2: 4, 4: 8, 8: 8}  # by the bits of a weight
SMALLEST_SHARE = 1e-6  # of the largest variance: components with less are rounding
_CHUNK = 256  # images whose targets are in memory as a matrix at once


@dataclass(frozen=True, eq=False)
class ReferenceVectors:
    """The mean vectors m of I images, as entries of a sparse matrix (I, G), sorted by image.

    ngrams, document_frequencies: of the G n-grams. other_frequency: the df whose idf is the mean idf of all
    occurrences of other n-grams. image, gram, value: (E,) of each entry.
    """

    images: int
    ngrams: UInt16[np.ndarray, "G 4"]
    document_frequencies: Int64[np.ndarray, " G"]
    other_frequency: float
    image: Int64[np.ndarray, " E"]
    gram: Int64[np.ndarray, " E"]
    value: Float[np.ndarray, " E"]

    @classmethod
    def of_captions(cls, references: EncodedCaptions, unknown: int, least_images: int) -> ReferenceVectors:
        """Of images with one or more captions each.

        Only n-grams that captions of `least_images` images have are kept, and none with the token `unknown`; all others
        count in the length of a caption's vector. DataError as `pack_ngrams`.
        """
        captions = list(chain.from_iterable(references))
        per_image = references.captions_per_image
        image_of_caption = np.repeat(np.arange(len(references)), per_image)
        ngrams, frequencies, entries = [], [], []
        others, total, kept_before = 0.0, 0, 0
        for n, (packed, caption) in enumerate(pack_ngrams(captions), start=1):
            grams, gram = np.unique(packed, return_inverse=True)
            gram, caption, count = _count(gram, caption)
            image = image_of_caption[caption]
            first = np.ones(len(gram), np.bool_)
            first[1:] = (gram[1:] != gram[:-1]) | (image[1:] != image[:-1])
            frequency = np.bincount(gram[first], minlength=len(grams))
            idf = np.log(len(references)) - np.log(np.maximum(frequency, 1))
            weight = count * idf[gram]
            length = np.sqrt(np.bincount(caption, weights=weight**2, minlength=len(captions)))[caption]
            value = np.divide(weight, length, out=np.zeros(len(weight)), where=length > 0) / per_image[image]
            words = _unpack(grams, n)
            kept = (frequency >= least_images) & ~(words == unknown).any(axis=1)
            number = np.cumsum(kept) - 1 + kept_before
            inside = kept[gram]
            others, total = others + float(weight[~inside].sum()), total + int(count[~inside].sum())
            entries.append((image[inside], number[gram[inside]], value[inside]))
            ngrams.append(words[kept])
            frequencies.append(frequency[kept])
            kept_before += int(kept.sum())
        image, gram, value = (np.concatenate(parts) for parts in zip(*entries, strict=True))
        order = np.argsort(image, kind="stable")
        return cls(
            len(references),
            np.concatenate(ngrams),
            np.concatenate(frequencies),
            float(len(references) * np.exp(-others / total)) if total else 1.0,
            image[order],
            gram[order],
            value[order],
        )

    def rows(self, first: int, end: int) -> Float32[np.ndarray, "N G"]:
        """The vectors of the images first … end − 1."""
        start, stop = np.searchsorted(self.image, [first, end])
        part = slice(start, stop)
        matrix = np.zeros((end - first, len(self.ngrams)), np.float32)
        np.add.at(matrix, (self.image[part] - first, self.gram[part]), self.value[part])
        return matrix

    def chunks(self) -> Iterator[tuple[slice, Float32[np.ndarray, "N G"]]]:
        """All vectors, some images at a time."""
        for first in range(0, self.images, _CHUNK):
            end = min(first + _CHUNK, self.images)
            yield slice(first, end), self.rows(first, end)


def fit_consensus(
    vectors: Float[np.ndarray, "I D"],
    references: EncodedCaptions,
    unknown: int,
    *,
    data: str,
    split: str,
    dimensions: int = 512,
    least_images: int = 10,
    bits: int = 4,
) -> ConsensusPredictor:
    """The predictor of I training images.

    vectors: of the encoder; references: their captions as token ids, one or more per image; unknown: the token <UNK>.
    dimensions: F, or as many as the vectors have; least_images: of an n-gram; bits: of a weight, 2, 4 or 8.
    DataError for fewer than 100 images, and where no n-gram is left.
    """
    if len(vectors) < LEAST_IMAGES:
        raise DataError(
            f"A consensus predictor needs {LEAST_IMAGES} images or more, and this split has {len(vectors)}."
        )
    targets = ReferenceVectors.of_captions(references, unknown, least_images)
    if not len(targets.ngrams):
        raise DataError(
            f"No n-gram is in the captions of {least_images} of the {len(vectors):,} images: use a smaller number."
        )
    mean = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    projection = QuantizedRows.from_matrix(_whitening(vectors - mean, dimensions), PROJECTION_BITS[bits])
    features = _features(vectors, mean, projection)
    ridge, explained, recognized = _choose_ridge(features, targets)
    weights, offset = _Normal.of(features, targets).solve(ridge)
    quantized = QuantizedRows.from_matrix(weights.T, bits)
    record = ConsensusRecord(
        data, split, len(vectors), len(targets.ngrams), features.shape[1], bits, ridge, explained, recognized
    )
    return ConsensusPredictor(
        mean=mean,
        projection=projection,
        ngrams=targets.ngrams,
        document_frequencies=_small(targets.document_frequencies),
        images=targets.images,
        other_frequency=targets.other_frequency,
        offset=_in_half(offset),
        weights=replace(quantized, steps=_in_half(quantized.steps)),
        record=record,
    )


def _small(counts: Int64[np.ndarray, " G"]) -> Integer[np.ndarray, " G"]:
    """Counts in 16 bits, or in 32 where one needs them: COCO has 110,000 images with "a"."""
    return counts.astype(np.uint16 if counts.max(initial=0) < 1 << 16 else np.int32)


def _in_half(values: np.ndarray) -> Float32[np.ndarray, " G"]:
    """Values that a file stores in float16, as they are when they are loaded."""
    return values.astype(np.float16).astype(np.float32)


def _count(
    gram: Int[np.ndarray, " O"], caption: Int[np.ndarray, " O"]
) -> tuple[Int64[np.ndarray, " E"], Int64[np.ndarray, " E"], Int64[np.ndarray, " E"]]:
    """Occurrences of n-grams in captions → the different pairs, sorted by n-gram, then caption; and their counts."""
    captions = int(caption.max(initial=0)) + 1
    pairs, count = np.unique(gram.astype(np.int64) * captions + caption, return_counts=True)
    return pairs // captions, pairs % captions, count


def _unpack(packed: np.ndarray, n: int) -> UInt16[np.ndarray, "G 4"]:
    """The token ids of packed n-grams, with 0 after them."""
    shifts = [np.uint64(BITS * (n - 1 - i)) for i in range(n)]
    words = [((packed >> shift) & np.uint64((1 << BITS) - 1)).astype(np.int64) - 1 for shift in shifts]
    return np.stack([*words, *[np.zeros(len(packed), np.int64)] * (LONGEST - n)], axis=1).astype(np.uint16)


def _whitening(centered: Float[np.ndarray, "I D"], dimensions: int) -> Float[np.ndarray, "F D"]:
    """The largest principal directions as rows, each divided by the standard deviation along it."""
    wide = centered.astype(np.float64)
    variances, directions = np.linalg.eigh(wide.T @ wide / len(wide))  # in increasing order
    kept = min(dimensions, int((variances > SMALLEST_SHARE * variances[-1]).sum()))
    whitening: np.ndarray = (directions[:, -kept:] / np.sqrt(variances[-kept:])).T
    return np.ascontiguousarray(whitening[::-1])


def _features(
    vectors: Float[np.ndarray, "I D"], mean: Float[np.ndarray, " D"], projection: QuantizedRows
) -> Float32[np.ndarray, "I F"]:
    """x of every image, as `ConsensusPredictor.image_features`."""
    projected = (vectors.astype(np.float64) - mean) @ projection.matrix().T
    lengths = np.linalg.norm(projected, axis=1, keepdims=True)
    features: np.ndarray = (projected / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    return features


@dataclass(frozen=True, eq=False)
class _Normal:
    """The normal equations of the regression: N images, sums of x and m, and XᵀX (F, F), XᵀM (F, G)."""

    images: int
    features: np.ndarray
    targets: np.ndarray
    squares: np.ndarray
    products: np.ndarray

    @classmethod
    def of(cls, features: Float32[np.ndarray, "I F"], targets: ReferenceVectors, held_out: int = 0) -> _Normal:
        """held_out: leave out each image whose number this divides; 0: none."""
        width, grams = features.shape[1], len(targets.ngrams)
        sums, products = np.zeros(grams), np.zeros((width, grams), np.float32)
        used = np.ones(len(features), np.bool_)
        if held_out:
            used[::held_out] = False
        for part, rows in targets.chunks():
            chosen = rows[used[part]]
            sums += chosen.sum(axis=0)
            products += features[part][used[part]].T @ chosen
        x = features[used].astype(np.float64)
        return cls(len(x), x.sum(axis=0), sums, x.T @ x, products)

    def solve(self, ridge: float) -> tuple[Float32[np.ndarray, "F G"], Float[np.ndarray, " G"]]:
        """W (transposed) and b of min Σ‖m − b − W x‖² + α N ‖W‖², whose offset b is not penalized."""
        x, m = self.features / self.images, self.targets / self.images
        left = self.squares - self.images * np.outer(x, x) + ridge * self.images * np.eye(len(x))
        right = self.products - self.images * np.outer(x, m)
        weights = np.linalg.solve(left, right).astype(np.float32)
        return weights, m - x @ weights


def _choose_ridge(features: Float32[np.ndarray, "I F"], targets: ReferenceVectors) -> tuple[float, float, float]:
    """The α whose predictions recognize most images that are left out, and what they explain and recognize."""
    every = max(HELD_OUT, -(-len(features) // MOST_HELD_OUT))
    normal = _Normal.of(features, targets, every)
    x = features[::every]
    truth = np.concatenate([rows[(-part.start) % every :: every] for part, rows in targets.chunks()])
    variance = float(np.square(truth - normal.targets / normal.images).sum())
    best = (0.0, 0.0, -np.inf)
    for ridge in RIDGES:
        weights, offset = normal.solve(ridge)
        predicted = x @ weights + offset.astype(np.float32)
        explained = 1 - float(np.square(truth - predicted).sum()) / variance
        similarity = predicted @ truth.T
        recognized = float((np.diag(similarity)[:, None] > similarity).sum() / (len(x) * (len(x) - 1)))
        if recognized > best[2]:
            best = (ridge, explained, recognized)
    return best
