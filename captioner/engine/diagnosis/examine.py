"""All checks, one after the other."""

from __future__ import annotations

from captioner.engine.diagnosis.findings import Finding
from captioner.engine.diagnosis.of_data import check_leak, check_recorded_captions, check_unknown_words
from captioner.engine.diagnosis.of_input import check_batch_norm, check_pixels
from captioner.engine.diagnosis.of_model import (
    check_attention,
    check_captions_end,
    check_identical_captions,
    check_image_matters,
    check_overfitting,
)
from captioner.engine.diagnosis.of_units import check_dead_units
from captioner.engine.diagnosis.patient import Patient


def examine(patient: Patient, train_pictures: int = 5000) -> list[Finding]:
    """One finding a check, in the order in which they build on one another. `train_pictures`: compared for copies."""
    return [
        check_pixels(patient),
        check_batch_norm(patient),
        check_identical_captions(patient),
        check_image_matters(patient),
        check_attention(patient),
        check_dead_units(patient),
        check_captions_end(patient),
        check_unknown_words(patient),
        check_overfitting(patient),
        check_leak(patient, train_pictures),
        check_recorded_captions(patient),
    ]
