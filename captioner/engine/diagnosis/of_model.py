"""Does the model look at its pictures, and do its captions end?"""

from __future__ import annotations

import math
from collections import Counter

import torch
from torch import Tensor

from captioner.engine.diagnosis.findings import Finding, by_limits, judged, worst
from captioner.engine.diagnosis.patient import Patient, batches, nats_a_word, packed
from captioner.nn.state import ImageFeatures


def check_identical_captions(patient: Patient) -> Finding:
    """How many different pictures are given one and the same caption."""
    said = Counter(hypothesis.tokens for hypothesis in patient.hypotheses)
    (tokens, most), *_ = said.most_common(1)
    share = most / len(patient.hypotheses)
    text = " ".join(patient.checkpoint.vocabulary.decode(tokens))
    return judged(
        "identical captions",
        by_limits(share, 0.2, 0.5) if len(patient.hypotheses) > 4 else None,
        f"{len(said):,} different captions of {len(patient.hypotheses):,} pictures; the most frequent, {text[:60]!r}, "
        f"is said of {share:.0%}.",
        "Train longer, and see the next check: a model that does not use its image says what is true of most.",
        {"distinct": len(said), "most_frequent_share": share},
    )


def check_image_matters(patient: Patient) -> Finding:
    """What the reference captions cost with the picture, with another one, and with none."""
    sample, device = patient.val, patient.device
    own = nats_a_word(patient.checkpoint, sample.features, sample.numbers, device)
    shifts = [shift for shift in (1, 2, 3) if shift < len(sample.numbers)]
    others = [nats_a_word(patient.checkpoint, rolled(sample.features, s), sample.numbers, device) for s in shifts]
    other = sum(others) / max(len(others), 1)
    none = nats_a_word(patient.checkpoint, zeroed(sample.features), sample.numbers, device)
    gap = other - own
    return judged(
        "the image matters",
        by_limits(-gap, -0.05, -0.01) if others else None,
        f"a word of the references costs {own:.3f} nats with its picture, {other:.3f} with another one "
        f"({gap:+.3f}), {none:.3f} with features of zero.",
        "The decoder says what captions say in general. Look at the features (next checks), raise "
        "optim.learning_rate or "
        "trainer.max_epochs, and choose a decoder that sees the image at every step (model=attention).",
        {"own": own, "another": other, "zero": none, "gap": gap},
    )


def rolled(features: ImageFeatures, places: int) -> ImageFeatures:
    """Every picture with the features of another one."""
    grid = None if features.grid is None else features.grid.roll(places, 0)
    return ImageFeatures(features.vector.roll(places, 0), grid)


def zeroed(features: ImageFeatures) -> ImageFeatures:
    """No picture at all."""
    grid = None if features.grid is None else torch.zeros_like(features.grid)
    return ImageFeatures(torch.zeros_like(features.vector), grid)


def check_attention(patient: Patient) -> Finding:
    """Attention that is spread evenly, or that looks at the same cells whatever the picture."""
    entropies: list[Tensor] = []
    maps: list[Tensor] = []  # mean over words, picture by picture
    with torch.no_grad():
        for part, (own,) in batches(patient.val.features, patient.val.numbers):
            captions = packed(own, patient.device)  # type: ignore[arg-type]
            attention = patient.checkpoint.model(part, captions).attention
            if attention is None:
                return Finding("attention", "skipped", "this decoder does not attend.")
            entropies.append(-(attention * attention.clamp_min(1e-12).log()).sum(1))
            pictures = captions.images[captions.rows]
            sums = attention.new_zeros(len(part.vector), attention.shape[1]).index_add(0, pictures, attention)
            maps.append(sums / sums.sum(1, keepdim=True))
    cells = maps[0].shape[1]
    entropy = float(torch.cat(entropies).mean()) / math.log(cells) if cells > 1 else 0.0
    every = torch.cat(maps)
    distance = float((every - every.roll(1, 0)).abs().sum(1).mean()) / 2
    uniform, collapsed = entropy > 0.99, distance < 0.01 and entropy < 0.9
    kind = "spread evenly" if uniform else "the same whatever the picture" if collapsed else "of its picture"
    return judged(
        "attention",
        "warning" if uniform or collapsed else None,
        f"it is {kind}: entropy {entropy:.3f} of the {math.log(cells):.2f} nats of even attention over {cells} cells; "
        f"the maps of two pictures differ by {distance:.3f} (0: equal, 1: disjoint).",
        "It works as a mean over the grid, or one fixed cell. Raise optim.learning_rate, lower "
        "model.doubly_stochastic, or "
        "take features with more detail (a larger encoder.image_size).",
        {"entropy": entropy, "distance": distance},
    )


def check_captions_end(patient: Patient) -> Finding:
    """Captions without <END>, and references longer than the search may say."""
    longest = patient.checkpoint.settings.decode.max_length
    cut = sum(not hypothesis.finished for hypothesis in patient.hypotheses) / len(patient.hypotheses)
    references = [words for own in patient.val.tokens for words in own]
    longer = sum(len(words) > longest for words in references) / len(references)
    return judged(
        "captions end",
        worst(by_limits(cut, 0.02, 0.2), by_limits(longer, 0.05, 0.5)),
        f"{cut:.1%} of the captions are cut at decode.max_length={longest}, before <END>; {longer:.1%} of the "
        "references "
        "are longer than that.",
        "Raise decode.max_length, and trainer.max_caption_length with it; where captions repeat themselves, "
        "train longer.",
        {"cut": cut, "longer_references": longer},
    )


def check_overfitting(patient: Patient) -> Finding:
    """What a word costs on training pictures beside validation pictures."""
    if patient.train is None:
        return Finding("overfitting", "skipped", "the data set has no train split.")
    train = nats_a_word(patient.checkpoint, patient.train.features, patient.train.numbers, patient.device)
    val = nats_a_word(patient.checkpoint, patient.val.features, patient.val.numbers, patient.device)
    return judged(
        "overfitting",
        by_limits(val - train, 1.0, 3.0),
        f"a word costs {train:.3f} nats on training pictures, {val:.3f} on validation pictures ({val - train:+.3f}).",
        "Stop earlier (trainer.patience), raise model.dropout or optim.weight_decay, or train on more data.",
        {"train": train, "val": val},
    )
