"""A consensus predictor of random numbers, and the definition in dense NumPy."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from captioner.decode.consensus import ConsensusPredictor, ConsensusRecord
from captioner.decode.quantized_rows import QuantizedRows

RECORD = ConsensusRecord("made", "train", 1000, 0, 3, 8, 1e-4, 0.1, 0.9)


def random_predictor(
    values: int = 5, tokens: Sequence[int] = (4, 5, 6), features: int = 3, bits: int = 8, seed: int = 0
) -> ConsensusPredictor:
    """Of image vectors with so many values, for about half of the n-grams of `tokens`."""
    random = np.random.default_rng(seed)
    grams = [gram for n in range(1, 5) for gram in itertools.product(tokens, repeat=n)]
    kept = [gram for gram in grams if len(gram) == 1 or random.random() < 0.5]
    return ConsensusPredictor(
        mean=random.normal(size=values).astype(np.float32),
        projection=QuantizedRows.from_matrix(random.normal(size=(features, values)), 4 if bits == 2 else 8),
        ngrams=np.array([gram + (0,) * (4 - len(gram)) for gram in kept], np.uint16),
        document_frequencies=random.integers(1, 900, len(kept)).astype(np.uint16),
        images=1000,
        other_frequency=2.5,
        offset=random.normal(size=len(kept)).astype(np.float16).astype(np.float32),
        weights=QuantizedRows.from_matrix(random.normal(size=(len(kept), features)), bits),
        record=RECORD,
    )


def similarity_by_definition(predictor: ConsensusPredictor, vector: np.ndarray, caption: Sequence[int]) -> float:
    """10/4 · Σ_n ū_n(c) · m̂_n, with every vector as a whole."""
    everything = np.arange(len(predictor.ngrams))
    z = predictor.projection.rows(np.arange(len(predictor.projection.steps))) @ (vector.astype(float) - predictor.mean)
    x = z / np.linalg.norm(z)
    m = predictor.offset + predictor.weights.rows(everything) @ x
    table = [tuple(token for token in gram if token) for gram in predictor.ngrams.tolist()]
    total = 0.0
    for n in range(1, 5):
        places = [tuple(caption[i : i + n]) for i in range(len(caption) - n + 1)]
        u = {}
        for gram in set(places):
            df = predictor.document_frequencies[table.index(gram)] if gram in table else predictor.other_frequency
            u[gram] = places.count(gram) * math.log(predictor.images / df)
        norm = math.sqrt(sum(x * x for x in u.values()))
        total += sum(
            value / places.count(gram) / norm * m[table.index(gram)] for gram, value in u.items() if gram in table
        )
    return 10 / 4 * total
