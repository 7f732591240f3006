"""A consensus predictor (`captioner.decode.consensus`) as a file of a checkpoint: plain arrays, never executed.

`python -m captioner consensus` fits it and stores it. `consensus.safetensors` has, for D values of an image vector, F
features and G n-grams:

    mean (D,), offset (G,)                    float32, float16
    projection (F, D) codes in 4 or 8 bits    with projection.steps (F,), float32
    weights (G, F) codes in 2, 4 or 8 bits    with weights.steps (G,), float16
    ngrams (G, 4), document_frequencies (G,)  unsigned integers of 16 bits; frequencies that need more, of 32, signed

and the other fields as JSON in its header. Format 1 has no `projection_bits`, which are 8 there.
`captioner.decode.quantized_rows` defines codes and steps.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from captioner.checkpoint.manifest import Manifest, verify
from captioner.checkpoint.safetensors_file import SafetensorsFile
from captioner.decode.consensus import ConsensusPredictor, ConsensusRecord
from captioner.decode.quantized_rows import QuantizedRows
from captioner.errors import CheckpointError, ConfigError
from captioner.files import write_atomically
from captioner.schema import from_plain, to_plain

CONSENSUS_FILE = "consensus.safetensors"
FORMAT_VERSION = 2


def save_consensus(predictor: ConsensusPredictor, folder: Path) -> None:
    """Write `CONSENSUS_FILE` into a checkpoint folder, whose manifest the caller writes after it."""
    from safetensors.numpy import save

    about = {
        "format_version": FORMAT_VERSION,
        "images": predictor.images,
        "other_frequency": predictor.other_frequency,
        "bits": predictor.weights.bits,
        "columns": predictor.weights.columns,
        "projection_bits": predictor.projection.bits,
        "record": to_plain(predictor.record),
    }
    tensors = {
        "mean": predictor.mean.astype(np.float32),
        "offset": predictor.offset.astype(np.float16),
        "projection": predictor.projection.codes,
        "projection.steps": predictor.projection.steps.astype(np.float32),
        "weights": predictor.weights.codes,
        "weights.steps": predictor.weights.steps.astype(np.float16),
        "ngrams": predictor.ngrams,
        "document_frequencies": predictor.document_frequencies,
    }
    contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    write_atomically(folder / CONSENSUS_FILE, save(contiguous, metadata={"consensus": json.dumps(about)}))


def load_consensus(
    folder: Path, manifest: Manifest, tokens: int, feature_dim: int | None = None
) -> ConsensusPredictor | None:
    """The predictor of a checkpoint, verified; None where it has none.

    tokens: of its vocabulary; feature_dim: D of its encoder, where that is known. CheckpointError for a file that
    cannot be read, was altered, or does not fit these.
    """
    if CONSENSUS_FILE not in manifest.sums:
        return None
    verify(folder, CONSENSUS_FILE, manifest)
    path = folder / CONSENSUS_FILE
    try:
        predictor = _read(SafetensorsFile.read(path))
        if int(predictor.ngrams.max(initial=0)) >= tokens:
            raise ValueError(f"it has token ids that a vocabulary of {tokens:,} tokens does not")
        if feature_dim is not None and len(predictor.mean) != feature_dim:
            raise ValueError(
                f"it reads {len(predictor.mean):,} values of an image, and the encoder gives {feature_dim:,}"
            )
    except (OSError, RecursionError, ValueError, KeyError, TypeError, ConfigError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}). Make it again: captioner consensus.") from error
    return predictor


def _read(file: SafetensorsFile) -> ConsensusPredictor:
    about = json.loads(file.metadata["consensus"])
    if about["format_version"] not in range(1, FORMAT_VERSION + 1):
        raise ValueError(f"it has format {about['format_version']}; this release reads 1 to {FORMAT_VERSION}")
    mean = file.array("mean")
    projection_bits = int(about.get("projection_bits", 8))
    projection = QuantizedRows(file.array("projection"), file.array("projection.steps"), projection_bits, len(mean))
    steps = file.array("weights.steps").astype(np.float32)
    weights = QuantizedRows(file.array("weights"), steps, int(about["bits"]), int(about["columns"]))
    predictor = ConsensusPredictor(
        mean=mean,
        projection=projection,
        ngrams=file.array("ngrams"),
        document_frequencies=file.array("document_frequencies"),
        images=int(about["images"]),
        other_frequency=float(about["other_frequency"]),
        offset=file.array("offset").astype(np.float32),
        weights=weights,
        record=from_plain(ConsensusRecord, about["record"], "record"),
    )
    predictor.check()
    return predictor
