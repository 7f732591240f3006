"""How sure a captioner is: a calibrated confidence for each caption, and images unlike those that it knows.

`python -m captioner calibrate` measures both on a validation split and stores them in the checkpoint.

confidence    the estimated probability that a caption is good, by logistic regression on four inputs: the mean
              log-probability of its tokens, its log-probability, the familiarity of the image, and what its score gains
              by the classes (`decode.class_weight`) and by the predicted consensus (`decode.consensus_weight`; a
              calibration without either has three inputs). "Good" is defined on
              the scores: see `CalibrationRecord.good_at`.
familiarity   ‖P v‖² / ‖v‖²: how much of the image vector v lies in the subspace P of the K largest principal directions
              of known images' vectors. Images of other kinds have more outside of it (Wang et al. 2022, "ViM", section
              3, use the residual in the same way). 0 to 1.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from captioner.checkpoint.safetensors_file import SafetensorsFile
from captioner.config import DecodeConfig
from captioner.errors import CheckpointError, ConfigError
from captioner.files import write_atomically
from captioner.schema import from_plain, to_plain

if TYPE_CHECKING:
    from jaxtyping import Float

CALIBRATION_FILE = "calibration.safetensors"
INPUTS = ("mean log-probability", "log-probability", "familiarity", "gain")
_TENSORS = ("subspace", "weights", "means", "scales")


@dataclass(frozen=True)
class CalibrationRecord:
    """How a calibration was measured.

    data, split, images: on which images. good_at: a caption is good if its CIDEr-D, with the document frequencies of
    the split's references, is at least this: three of four reference captions reach it against the other references of
    their image. good: the share of generated captions that are good. calibration_error: the expected calibration error
    (Guo et al. 2017, equation 5) with ten bins, and auc: the area under the ROC curve, both of confidences that other
    images were fitted on. unlike_below: familiarity under which an image counts as unlike the known ones; unlike: the
    share of the split's images below it, when other images were fitted on.
    """

    data: str
    split: str
    images: int
    good_at: float
    good: float
    calibration_error: float
    auc: float
    unlike_below: float
    unlike: float


@dataclass(frozen=True, eq=False)
class Calibration:
    """The parameters of confidence and familiarity.

    subspace: (K, D) orthonormal rows. intercept, weights (N,): of the logistic regression on the first N standardized
    `INPUTS`, whose means and scales are (N,). decode: the search whose captions were calibrated.
    """

    subspace: Float[np.ndarray, "K D"]
    intercept: float
    weights: Float[np.ndarray, " N"]
    means: Float[np.ndarray, " N"]
    scales: Float[np.ndarray, " N"]
    decode: DecodeConfig
    record: CalibrationRecord

    def familiarity(self, vectors: Float[np.ndarray, "B D"]) -> Float[np.ndarray, " B"]:
        """Of image vectors. 0 for a vector of zeros."""
        return subspace_share(vectors, self.subspace)

    def confidence(self, log_prob: float, length: int, familiarity: float, gain: float = 0.0) -> float:
        """Of one caption. length: its tokens, <END> counted; gain: `gain_of_words`."""
        given = (np.array([value]) for value in (log_prob, length, familiarity, gain))
        inputs = confidence_inputs(*given)[:, : len(self.weights)]
        logit = self.intercept + ((inputs - self.means) / self.scales) @ self.weights
        return float(sigmoid(logit)[0])

    def applies_to(self, decode: DecodeConfig) -> bool:
        """Whether captions of this search have a confidence: another search finds captions of other probabilities."""
        return decode == self.decode


def subspace_share(vectors: Float[np.ndarray, "B D"], subspace: Float[np.ndarray, "K D"]) -> Float[np.ndarray, " B"]:
    """‖P v‖² / ‖v‖² of each vector; 0 for a vector of zeros."""
    squares = np.square(vectors.astype(np.float64)).sum(axis=1)
    inside = np.square(vectors.astype(np.float64) @ subspace.T).sum(axis=1)
    share: np.ndarray = np.divide(inside, squares, out=np.zeros_like(squares), where=squares > 0)
    return share


def confidence_inputs(
    log_probs: Float[np.ndarray, " B"], lengths: Any, familiarity: Float[np.ndarray, " B"], gains: Any
) -> Float[np.ndarray, "B 4"]:
    """`INPUTS` of B captions. lengths: (B,) tokens, <END> counted; 0 counts as 1. gains: (B,), `gain_of_words`."""
    return np.stack([log_probs / np.maximum(lengths, 1), log_probs, familiarity, gains], axis=1)


def gain_of_words(score: float, log_prob: float, length: int, length_penalty: float) -> float:
    """What a beam search's score has besides the log-probability: the gains of classes and consensus."""
    return float(score - log_prob / max(length, 1) ** length_penalty)


def sigmoid(logits: Float[np.ndarray, " B"]) -> Float[np.ndarray, " B"]:
    """1 / (1 + e^-x), without overflow."""
    probability: np.ndarray = 0.5 * (1 + np.tanh(0.5 * logits))
    return probability


def save_calibration(calibration: Calibration, folder: Path) -> None:
    """Write `CALIBRATION_FILE` into a checkpoint folder, whose manifest the caller writes after it."""
    from safetensors.numpy import save

    about = {
        "intercept": calibration.intercept,
        "decode": to_plain(calibration.decode),
        "record": to_plain(calibration.record),
    }
    tensors = {name: np.ascontiguousarray(getattr(calibration, name), np.float32) for name in _TENSORS}
    tensors["subspace"] = tensors["subspace"].astype(np.float16)
    write_atomically(folder / CALIBRATION_FILE, save(tensors, metadata={"calibration": json.dumps(about)}))


def load_calibration(folder: Path) -> Calibration:
    """Read what `save_calibration` wrote. CheckpointError where it cannot be read or was altered."""
    path = folder / CALIBRATION_FILE
    try:
        file = SafetensorsFile.read(path)
        about = json.loads(file.metadata["calibration"])
        tensors = {name: file.array(name).astype(np.float32) for name in _TENSORS}
        return Calibration(
            **tensors,
            intercept=float(about["intercept"]),
            decode=from_plain(DecodeConfig, about["decode"], "decode"),
            record=from_plain(CalibrationRecord, about["record"], "record"),
        )
    except (OSError, RecursionError, ValueError, KeyError, TypeError, ConfigError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}). Make it again: captioner calibrate.") from error
