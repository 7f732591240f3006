"""Check of the decoder's hidden units."""

from __future__ import annotations

from captioner.analysis.activations import join_recordings, record_captions
from captioner.doctor.context import DiagnosticContext, batches
from captioner.doctor.findings import Finding, make_finding, severity_by_limits

MIN_DEVIATION = 1e-3  # of the range of the layer's units: units with a smaller standard deviation are dead


def check_dead_units(context: DiagnosticContext) -> Finding:
    """Hidden units that hardly vary while the decoder reads one reference caption per image.

    For example units that are always saturated, or rectified units that are always 0.
    """
    vocabulary = context.checkpoint.vocabulary
    recordings = []
    for part, (captions,) in batches(
        context.val.features, [captions[0] if captions else [] for captions in context.val.token_ids]
    ):
        words = [vocabulary.decode(caption) for caption in captions]
        recordings.append(record_captions(context.checkpoint.model, part, captions, words))
    recording = join_recordings(recordings)
    layers = {name.removesuffix(".h"): values for name, values in recording.values.items() if name.endswith(".h")}
    if not layers or len(recording.tokens) < 2:
        return Finding("dead units", "skipped", "no recurrent layer, or too few words to measure how its units vary.")
    dead = {}
    for layer, values in layers.items():
        spread = values.std(dim=0)
        dead[layer] = int((spread <= MIN_DEVIATION * (values.max() - values.min())).sum())
    units = {layer: values.shape[1] for layer, values in layers.items()}
    worst_layer = max(dead, key=lambda layer: dead[layer] / units[layer])
    share = dead[worst_layer] / units[worst_layer]
    counted = ", ".join(f"{dead[layer]:,} of {units[layer]:,} in {layer}" for layer in layers)
    return make_finding(
        "dead units",
        severity_by_limits(share, 0.05, 0.5),
        f"hidden units that hardly vary over {len(recording.tokens):,} words of {len(context.val.token_ids):,} images "
        f"(standard deviation below {MIN_DEVIATION:g} of their layer's range): {counted} ({share:.1%}).",
        "These units do not contribute. Train again with a lower optim.learning_rate or a smaller optim.clip_norm, "
        "longer warm-up (optim.warmup_steps), or fewer units (model.hidden_dim).",
        {"share": share, **{f"dead_{layer}": float(count) for layer, count in dead.items()}},
    )
