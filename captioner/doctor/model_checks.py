"""Checks of the model: use of the image, attention, caption length, overfitting."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor

from captioner.doctor.context import DiagnosticContext, batches, nats_per_word, pack
from captioner.doctor.findings import Finding, make_finding, severity_by_limits, worst_severity
from captioner.nn.types import ImageFeatures


def check_identical_captions(context: DiagnosticContext) -> Finding:
    """The share of images with the most frequent generated caption."""
    counts = Counter(hypothesis.tokens for hypothesis in context.hypotheses)
    (tokens, most), *_ = counts.most_common(1)
    share = most / len(context.hypotheses)
    text = " ".join(context.checkpoint.vocabulary.decode(tokens))
    return make_finding(
        "identical captions",
        severity_by_limits(share, 0.2, 0.5) if len(context.hypotheses) > 4 else None,
        f"{len(counts):,} different captions of {len(context.hypotheses):,} images; the most frequent, {text[:60]!r}, "
        f"is generated for {share:.0%}.",
        "Train longer, and see the next check: a model that ignores its image generates what is true of most images.",
        {"distinct": len(counts), "most_frequent_share": share},
    )


def check_image_matters(context: DiagnosticContext) -> Finding:
    """The cross-entropy of the references with their image, with another image, and with features of zero."""
    sample, device = context.val, context.device
    if len(sample.token_ids) < 2:
        return Finding("the image matters", "skipped", "there is only one image.")
    with_own = nats_per_word(context.checkpoint, sample.features, sample.token_ids, device)
    shifts = [shift for shift in (1, 2, 3) if shift < len(sample.token_ids)]
    others = [nats_per_word(context.checkpoint, rolled(sample.features, s), sample.token_ids, device) for s in shifts]
    other = sum(others) / len(others)
    none = nats_per_word(context.checkpoint, zeroed(sample.features), sample.token_ids, device)
    gap = other - with_own
    return make_finding(
        "the image matters",
        severity_by_limits(-gap, -0.05, -0.01),
        f"the cross-entropy of the references is {with_own:.3f} nats per word with their image, {other:.3f} with "
        f"another image ({gap:+.3f}), {none:.3f} with features of zero.",
        "The decoder generates generic captions. See the checks of the features, raise optim.learning_rate or "
        "trainer.max_epochs, and choose a decoder that reads the image at every step (model=attention).",
        {"own": with_own, "another": other, "zero": none, "gap": gap},
    )


def rolled(features: ImageFeatures, shift: int) -> ImageFeatures:
    """The features shifted by `shift` images, so that every image has those of another one."""
    return features.images(lambda tensor: tensor.roll(shift, 0))


def zeroed(features: ImageFeatures) -> ImageFeatures:
    """Features of zero."""
    grid = None if features.grid is None else torch.zeros_like(features.grid)
    return features._replace(vector=torch.zeros_like(features.vector), grid=grid)


def check_attention(context: DiagnosticContext) -> Finding:
    """Whether attention is uniform, or on the same regions for every image."""
    entropies: list[Tensor] = []
    uniform_entropies: list[Tensor] = []
    maps: list[Tensor] = []  # mean over words, image by image
    with torch.no_grad():
        for part, (references,) in batches(context.val.features, context.val.token_ids):
            captions = pack(references, context.device)
            attention = context.checkpoint.model(part, captions).attention
            if attention is None:
                return Finding("attention", "skipped", "this decoder has no attention.")
            entropies.append(-(attention * attention.clamp_min(1e-12).log()).sum(1))
            images = captions.images[captions.rows]
            counts = (
                attention.new_full((len(part.vector),), attention.shape[1]) if part.mask is None else part.mask.sum(1)
            )
            uniform_entropies.append(counts.float().log()[images])
            sums = attention.new_zeros(len(part.vector), attention.shape[1]).index_add(0, images, attention)
            maps.append(sums / sums.sum(1, keepdim=True))
    regions = maps[0].shape[1]
    of_uniform = float(torch.cat(uniform_entropies).mean())
    entropy = float(torch.cat(entropies).mean()) / of_uniform if of_uniform > 0 else 0.0
    all_maps = torch.cat(maps)
    distance = float((all_maps - all_maps.roll(1, 0)).abs().sum(1).mean()) / 2
    uniform, collapsed = entropy > 0.99, distance < 0.01 and entropy < 0.9
    kind = "uniform" if uniform else "the same for every image" if collapsed else "specific to the image"
    return make_finding(
        "attention",
        "warning" if uniform or collapsed else None,
        f"it is {kind}: entropy {entropy:.3f} of the {of_uniform:.2f} nats of uniform attention over "
        f"{regions} regions; the maps of two images differ by {distance:.3f} (0: equal, 1: disjoint).",
        "The attention acts as the mean of the grid, or as one fixed region. Raise optim.learning_rate, lower "
        "model.doubly_stochastic, or use features with more detail (a larger encoder.image_size).",
        {"entropy": entropy, "distance": distance},
    )


def check_captions_end(context: DiagnosticContext) -> Finding:
    """The share of generated captions without <END>, and of references longer than `decode.max_length`."""
    longest = context.checkpoint.settings.decode.max_length
    cut = sum(not hypothesis.finished for hypothesis in context.hypotheses) / len(context.hypotheses)
    references = [words for captions in context.val.tokens for words in captions]
    longer = sum(len(words) > longest for words in references) / len(references)
    return make_finding(
        "captions end",
        worst_severity(severity_by_limits(cut, 0.02, 0.2), severity_by_limits(longer, 0.05, 0.5)),
        f"{cut:.1%} of the captions are cut at decode.max_length={longest}, before <END>; {longer:.1%} of the "
        "references are longer than that.",
        "Raise decode.max_length, and trainer.max_caption_length with it; if captions repeat themselves, train longer.",
        {"cut": cut, "longer_references": longer},
    )


def check_overfitting(context: DiagnosticContext) -> Finding:
    """Compare the cross-entropy of the references on training and on validation images."""
    if context.train is None:
        return Finding("overfitting", "skipped", "the data set has no train split.")
    train = nats_per_word(context.checkpoint, context.train.features, context.train.token_ids, context.device)
    val = nats_per_word(context.checkpoint, context.val.features, context.val.token_ids, context.device)
    return make_finding(
        "overfitting",
        severity_by_limits(val - train, 1.0, 3.0),
        f"the cross-entropy is {train:.3f} nats per word on training images, {val:.3f} on validation images "
        f"({val - train:+.3f}).",
        "Stop earlier (trainer.patience), raise model.dropout or optim.weight_decay, or train on more data.",
        {"train": train, "val": val},
    )
