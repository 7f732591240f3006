"""Fitting a consensus predictor: the mean TF-IDF vectors, the ridge regression, and what it learns."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from captioner.analysis import fit_consensus as module
from captioner.analysis.fit_consensus import ReferenceVectors, fit_consensus
from captioner.checkpoint.consensus_file import load_consensus, save_consensus
from captioner.checkpoint.manifest import read_manifest, write_manifest
from captioner.data.token_ids import EncodedCaptions
from captioner.errors import DataError

UNKNOWN = 3
SUBJECTS, PLACES = 6, 5


def scenes(images: int, seed: int = 0) -> tuple[np.ndarray, list[list[list[int]]]]:
    """Vectors that tell a subject and a place, with noise; captions "a SUBJECT in the PLACE" in two forms."""
    random = np.random.default_rng(seed)
    subject, place = random.integers(SUBJECTS, size=images), random.integers(PLACES, size=images)
    clean = np.hstack([np.eye(SUBJECTS)[subject], np.eye(PLACES)[place]])
    vectors = clean + 0.1 * random.normal(size=clean.shape)
    captions = [
        [[4, 10 + s, 5, 6, 20 + p], [4, 10 + s, 7, UNKNOWN, 8, 20 + p]]
        for s, p in zip(subject.tolist(), place.tolist(), strict=True)
    ]
    return vectors.astype(np.float32), captions


def grams(caption: list[int], n: int) -> Counter[tuple[int, ...]]:
    return Counter(tuple(caption[i : i + n]) for i in range(len(caption) - n + 1))


def test_mean_vectors_are_those_of_the_definition() -> None:
    random = np.random.default_rng(1)
    captions = [
        [random.integers(3, 9, random.integers(1, 8)).tolist() for _ in range(random.integers(1, 4))] for _ in range(30)
    ]
    least = 3
    found = ReferenceVectors.of_captions(EncodedCaptions.from_lists(captions), UNKNOWN, least)
    df: Counter[tuple[int, ...]] = Counter()
    for of_image in captions:
        df.update({gram for caption in of_image for n in range(1, 5) for gram in grams(caption, n)})
    table = [tuple(token for token in gram if token) for gram in found.ngrams.tolist()]
    assert set(table) == {gram for gram, count in df.items() if count >= least and UNKNOWN not in gram}
    assert len(set(table)) == len(table)
    assert found.document_frequencies.tolist() == [df[gram] for gram in table]
    expected = np.zeros((30, len(table)))
    other, occurrences = 0.0, 0
    for image, of_image in enumerate(captions):
        for caption in of_image:
            for n in range(1, 5):
                values = {gram: k * np.log(30 / df[gram]) for gram, k in grams(caption, n).items()}
                norm = np.sqrt(sum(value**2 for value in values.values()))
                for gram, value in values.items():
                    if gram in table and norm > 0:
                        expected[image, table.index(gram)] += value / norm / len(of_image)
                    if gram not in table:
                        other, occurrences = other + value, occurrences + grams(caption, n)[gram]
    np.testing.assert_allclose(found.rows(0, 30), expected, atol=1e-6)
    assert np.log(30 / found.other_frequency) == pytest.approx(other / occurrences)
    parts = list(found.chunks())
    np.testing.assert_array_equal(np.concatenate([rows for _, rows in parts]), found.rows(0, 30))
    assert all(one.stop == two.start for (one, _), (two, _) in pairwise(parts))


def test_the_regression_is_ridge_with_a_free_offset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK", 7)  # several chunks, the last one smaller
    vectors, captions = scenes(120)
    targets = ReferenceVectors.of_captions(EncodedCaptions.from_lists(captions), UNKNOWN, 2)
    x, m = vectors.astype(np.float64), targets.rows(0, 120).astype(np.float64)
    ridge = 0.02
    for held_out in (0, 10):
        kept = np.array([not held_out or i % held_out > 0 for i in range(120)])
        centered = x[kept] - x[kept].mean(0)
        # Ridge as least squares with rows of sqrt(α N) below.
        above = np.vstack([centered, np.sqrt(ridge * kept.sum()) * np.eye(x.shape[1])])
        below = np.vstack([m[kept] - m[kept].mean(0), np.zeros((x.shape[1], m.shape[1]))])
        expected = np.linalg.lstsq(above, below, rcond=None)[0]
        weights, offset = module._Normal.of(vectors, targets, held_out).solve(ridge)
        np.testing.assert_allclose(weights, expected, atol=1e-4)
        np.testing.assert_allclose(offset, m[kept].mean(0) - x[kept].mean(0) @ expected, atol=1e-4)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_it_recognizes_what_it_has_learned(bits: int) -> None:
    vectors, captions = scenes(400)
    predictor = fit_consensus(
        vectors, EncodedCaptions.from_lists(captions), UNKNOWN, data="made", split="train", least_images=5, bits=bits
    )
    predictor.check()
    assert predictor.record.images == 400
    assert predictor.record.dimensions == SUBJECTS + PLACES
    assert predictor.record.recognized > 0.9
    assert predictor.record.explained > 0.8
    new, truth = scenes(50, seed=1)
    choices = [[4, 10 + s, 5, 6, 20 + p] for s in range(SUBJECTS) for p in range(PLACES)]
    right = [
        choices[int(np.argmax(predictor.similarities(vector, choices)))] == of_image[0]
        for vector, of_image in zip(new, truth, strict=True)
    ]
    assert np.mean(right) > 0.95


def test_the_features_of_one_image_are_those_of_the_fit() -> None:
    vectors, captions = scenes(150)
    predictor = fit_consensus(
        vectors, EncodedCaptions.from_lists(captions), UNKNOWN, data="made", split="train", dimensions=4, least_images=5
    )
    together = module._features(vectors, predictor.mean, predictor.projection)
    for image in (0, 77):
        np.testing.assert_allclose(predictor.image_features(vectors[image]), together[image], atol=1e-6)
    assert together.shape == (150, 4)


def test_what_cannot_be_fitted_is_one_message() -> None:
    vectors, captions = scenes(150)
    references = EncodedCaptions.from_lists(captions)
    with pytest.raises(DataError, match="needs 100 images or more, and this split has 99"):
        fit_consensus(vectors[:99], EncodedCaptions.from_lists(captions[:99]), UNKNOWN, data="made", split="train")
    with pytest.raises(DataError, match="in the captions of 151 of the 150 images"):
        fit_consensus(vectors, references, UNKNOWN, data="made", split="train", least_images=151)


def test_a_word_of_more_images_than_16_bits_count_weighs_what_it_should(tmp_path: Path) -> None:
    """As "a" in COCO's 113,287 images: the idf of what all images have is 0, stored and loaded too."""
    images = 66_000
    captions = EncodedCaptions.from_lists([[[4, 5 + image % 3]] for image in range(images)])
    vectors = np.eye(3, dtype=np.float32)[np.arange(images) % 3] + np.float32(0.1)
    found = fit_consensus(vectors, captions, UNKNOWN, data="x", split="train", dimensions=2, bits=8)
    frequency = dict(zip(map(tuple, found.ngrams.tolist()), found.document_frequencies.tolist(), strict=True))
    assert frequency[4, 0, 0, 0] == images
    assert found.clipped_vector([4]) == {}  # of length 0
    save_consensus(found, tmp_path)
    write_manifest(tmp_path)
    loaded = load_consensus(tmp_path, read_manifest(tmp_path), 8)
    assert loaded is not None
    np.testing.assert_array_equal(loaded.document_frequencies, found.document_frequencies)
    np.testing.assert_array_equal(loaded.similarities(vectors[0], [[4, 5]]), found.similarities(vectors[0], [[4, 5]]))
