"""A consensus predictor in the form that the page without a server reads (`page/consensus.js`).

`consensus.bin`, little-endian, without gaps, for D values of an image vector, F features and G n-grams:

    float32    mean (D), steps of the projection (F), offset (G), steps of the weights (G), document frequencies (G)
    uint16     n-grams (G × 4)
    uint8      codes of the projection (F × bytes of a row), codes of the weights (G × bytes of a row)

`about` has the sizes and the other fields, for `model.json`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from captioner.decode.consensus import ConsensusPredictor

CONSENSUS_BINARY = "consensus.bin"


def about(predictor: ConsensusPredictor) -> dict[str, Any]:
    """What is not in `consensus.bin`, as JSON values."""
    return {
        "images": predictor.images,
        "other_frequency": predictor.other_frequency,
        "values": len(predictor.mean),
        "features": predictor.weights.columns,
        "ngrams": len(predictor.ngrams),
        "bits": predictor.weights.bits,
        "projection_bits": predictor.projection.bits,
    }


def content(predictor: ConsensusPredictor) -> bytes:
    """The bytes of `consensus.bin`."""
    numbers = (
        predictor.mean,
        predictor.projection.steps,
        predictor.offset,
        predictor.weights.steps,
        predictor.document_frequencies,
    )
    parts = [np.asarray(part, "<f4").tobytes() for part in numbers]
    parts.append(np.asarray(predictor.ngrams, "<u2").tobytes())
    parts += [matrix.codes.tobytes() for matrix in (predictor.projection, predictor.weights)]
    return b"".join(parts)
