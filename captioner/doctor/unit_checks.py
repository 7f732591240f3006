"""Does every unit of the decoder do something?"""

from __future__ import annotations

from captioner.analysis.activations import join_recordings, record_captions
from captioner.doctor.context import DiagnosticContext, batches
from captioner.doctor.findings import Finding, by_limits, judged

HARDLY = 1e-3  # of the range in which the units of a layer lie: a standard deviation below it is none


def check_dead_units(context: DiagnosticContext) -> Finding:
    """Hidden units that stay where they are, whatever the photo and the word: one reference caption an image is read.

    A unit that is saturated at one end, or a rectified one that is always 0, is such a unit.
    """
    vocabulary = context.checkpoint.vocabulary
    recordings = []
    for part, (captions,) in batches(context.val.features, [own[0] if own else [] for own in context.val.numbers]):
        words = [vocabulary.decode(caption) for caption in captions]
        recordings.append(record_captions(context.checkpoint.model, part, captions, words))
    read = join_recordings(recordings)
    layers = {name.removesuffix(".h"): values for name, values in read.values.items() if name.endswith(".h")}
    if not layers or len(read.tokens) < 2:
        return Finding("dead units", "skipped", "no recurrent layer, or too few words to see its units vary.")
    dead = {}
    for layer, values in layers.items():
        spread = values.std(dim=0)
        dead[layer] = int((spread <= HARDLY * (values.max() - values.min())).sum())
    units = {layer: values.shape[1] for layer, values in layers.items()}
    worst_layer = max(dead, key=lambda layer: dead[layer] / units[layer])
    share = dead[worst_layer] / units[worst_layer]
    counted = ", ".join(f"{dead[layer]:,} of {units[layer]:,} in {layer}" for layer in layers)
    return judged(
        "dead units",
        by_limits(share, 0.05, 0.5),
        f"hidden units that hardly vary over {len(read.tokens):,} words of {len(context.val.numbers):,} images "
        f"(standard deviation below {HARDLY:g} of their layer's range): {counted} ({share:.1%}).",
        "They compute nothing that changes. Train anew with a lower optim.learning_rate or a smaller optim.clip_norm, "
        "longer warm-up (optim.warmup_steps), or fewer units (model.hidden_dim).",
        {"share": share, **{f"dead_{layer}": float(count) for layer, count in dead.items()}},
    )
