"""Does the model look at its images, and do its captions end?"""

from __future__ import annotations

import math
from collections import Counter

import torch
from torch import Tensor

from captioner.doctor.context import DiagnosticContext, batches, nats_a_word, packed
from captioner.doctor.findings import Finding, by_limits, judged, worst
from captioner.nn.types import ImageFeatures


def check_identical_captions(context: DiagnosticContext) -> Finding:
    """How many different images are given one and the same caption."""
    said = Counter(hypothesis.tokens for hypothesis in context.hypotheses)
    (tokens, most), *_ = said.most_common(1)
    share = most / len(context.hypotheses)
    text = " ".join(context.checkpoint.vocabulary.decode(tokens))
    return judged(
        "identical captions",
        by_limits(share, 0.2, 0.5) if len(context.hypotheses) > 4 else None,
        f"{len(said):,} different captions of {len(context.hypotheses):,} images; the most frequent, {text[:60]!r}, "
        f"is said of {share:.0%}.",
        "Train longer, and see the next check: a model that does not use its image says what is true of most.",
        {"distinct": len(said), "most_frequent_share": share},
    )


def check_image_matters(context: DiagnosticContext) -> Finding:
    """What the reference captions cost with the image, with another one, and with none."""
    sample, device = context.val, context.device
    own = nats_a_word(context.checkpoint, sample.features, sample.numbers, device)
    shifts = [shift for shift in (1, 2, 3) if shift < len(sample.numbers)]
    others = [nats_a_word(context.checkpoint, rolled(sample.features, s), sample.numbers, device) for s in shifts]
    other = sum(others) / max(len(others), 1)
    none = nats_a_word(context.checkpoint, zeroed(sample.features), sample.numbers, device)
    gap = other - own
    return judged(
        "the image matters",
        by_limits(-gap, -0.05, -0.01) if others else None,
        f"a word of the references costs {own:.3f} nats with its image, {other:.3f} with another one "
        f"({gap:+.3f}), {none:.3f} with features of zero.",
        "The decoder says what captions say in general. Look at the features (next checks), raise "
        "optim.learning_rate or "
        "trainer.max_epochs, and choose a decoder that sees the image at every step (model=attention).",
        {"own": own, "another": other, "zero": none, "gap": gap},
    )


def rolled(features: ImageFeatures, places: int) -> ImageFeatures:
    """Every image with the features of another one."""
    grid = None if features.grid is None else features.grid.roll(places, 0)
    return ImageFeatures(features.vector.roll(places, 0), grid)


def zeroed(features: ImageFeatures) -> ImageFeatures:
    """No image at all."""
    grid = None if features.grid is None else torch.zeros_like(features.grid)
    return ImageFeatures(torch.zeros_like(features.vector), grid)


def check_attention(context: DiagnosticContext) -> Finding:
    """Attention that is spread evenly, or that looks at the same cells whatever the image."""
    entropies: list[Tensor] = []
    maps: list[Tensor] = []  # mean over words, image by image
    with torch.no_grad():
        for part, (own,) in batches(context.val.features, context.val.numbers):
            captions = packed(own, context.device)
            attention = context.checkpoint.model(part, captions).attention
            if attention is None:
                return Finding("attention", "skipped", "this decoder does not attend.")
            entropies.append(-(attention * attention.clamp_min(1e-12).log()).sum(1))
            images = captions.images[captions.rows]
            sums = attention.new_zeros(len(part.vector), attention.shape[1]).index_add(0, images, attention)
            maps.append(sums / sums.sum(1, keepdim=True))
    cells = maps[0].shape[1]
    entropy = float(torch.cat(entropies).mean()) / math.log(cells) if cells > 1 else 0.0
    every = torch.cat(maps)
    distance = float((every - every.roll(1, 0)).abs().sum(1).mean()) / 2
    uniform, collapsed = entropy > 0.99, distance < 0.01 and entropy < 0.9
    kind = "spread evenly" if uniform else "the same whatever the image" if collapsed else "of its image"
    return judged(
        "attention",
        "warning" if uniform or collapsed else None,
        f"it is {kind}: entropy {entropy:.3f} of the {math.log(cells):.2f} nats of even attention over {cells} cells; "
        f"the maps of two images differ by {distance:.3f} (0: equal, 1: disjoint).",
        "It works as a mean over the grid, or one fixed cell. Raise optim.learning_rate, lower "
        "model.doubly_stochastic, or "
        "take features with more detail (a larger encoder.image_size).",
        {"entropy": entropy, "distance": distance},
    )


def check_captions_end(context: DiagnosticContext) -> Finding:
    """Captions without <END>, and references longer than the search may say."""
    longest = context.checkpoint.settings.decode.max_length
    cut = sum(not hypothesis.finished for hypothesis in context.hypotheses) / len(context.hypotheses)
    references = [words for own in context.val.tokens for words in own]
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


def check_overfitting(context: DiagnosticContext) -> Finding:
    """What a word costs on training images beside validation images."""
    if context.train is None:
        return Finding("overfitting", "skipped", "the data set has no train split.")
    train = nats_a_word(context.checkpoint, context.train.features, context.train.numbers, context.device)
    val = nats_a_word(context.checkpoint, context.val.features, context.val.numbers, context.device)
    return judged(
        "overfitting",
        by_limits(val - train, 1.0, 3.0),
        f"a word costs {train:.3f} nats on training images, {val:.3f} on validation images ({val - train:+.3f}).",
        "Stop earlier (trainer.patience), raise model.dropout or optim.weight_decay, or train on more data.",
        {"train": train, "val": val},
    )
