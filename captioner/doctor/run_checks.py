"""Run all checks."""

from __future__ import annotations

from captioner.doctor.context import DiagnosticContext
from captioner.doctor.data_checks import check_leak, check_recorded_captions, check_unknown_words
from captioner.doctor.findings import Finding
from captioner.doctor.input_checks import check_batch_norm, check_pixels
from captioner.doctor.model_checks import (
    check_attention,
    check_captions_end,
    check_identical_captions,
    check_image_matters,
    check_overfitting,
)
from captioner.doctor.unit_checks import check_dead_units


def run_checks(context: DiagnosticContext, train_images: int = 5000) -> list[Finding]:
    """One finding per check. train_images: how many training images are compared with the validation images."""
    return [
        check_pixels(context),
        check_batch_norm(context),
        check_identical_captions(context),
        check_image_matters(context),
        check_attention(context),
        check_dead_units(context),
        check_captions_end(context),
        check_unknown_words(context),
        check_overfitting(context),
        check_leak(context, train_images),
        check_recorded_captions(context),
    ]
