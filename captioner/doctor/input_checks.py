"""Checks of the encoder's input: image normalization and BatchNorm statistics."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor, nn

from captioner.doctor.context import BATCH_SIZE, DiagnosticContext, nats_per_word
from captioner.doctor.findings import Finding, make_finding, severity_by_limits, worst_severity
from captioner.errors import CaptionerError
from captioner.nn.encoders.build_encoder import build_encoder
from captioner.nn.types import ImageFeatures


def check_pixels(context: DiagnosticContext) -> Finding:
    """The mean and standard deviation of the encoder's input, and whether the transform is that of its weights."""
    if not context.checkpoint.model.encoder.encodes_images:
        return Finding("normalized input", "skipped", "the features are made elsewhere.")
    transform, images = context.checkpoint.model.encoder.transform, context.val.images
    mean, spread = float(images.mean()), float(images.std())
    evidence = f"the encoder's input has mean {mean:.2f} and standard deviation {spread:.2f} (expected: about 0 and 1)"
    try:
        described = replace(context.checkpoint.settings.encoder, image_size=transform.size)
        expected = build_encoder(described, load_weights=False).transform
        differs = (transform.mean, transform.std) != (expected.mean, expected.std)
    except CaptionerError:  # an encoder that this torchvision does not have
        differs = False
    if differs:
        evidence += (
            f"; it is normalized with mean {list(transform.mean)} and std {list(transform.std)}, but the encoder's "
        )
        evidence += f"weights need {list(expected.mean)} and {list(expected.std)}"
    odd = abs(mean) > 2 or not 0.2 < spread < 4
    return make_finding(
        "normalized input",
        "serious" if odd or differs else None,
        evidence + ".",
        "Restore transform.mean and transform.std (in config.json of the checkpoint) and train again.",
        {"mean": mean, "std": spread},
    )


def check_batch_norm(context: DiagnosticContext) -> Finding:
    """Compare the running statistics with those of a batch, and the cross-entropy of the references with either."""
    encoder = context.checkpoint.model.encoder
    trunk = copy.deepcopy(encoder.trunk)
    norms = [module for module in trunk.modules() if isinstance(module, nn.BatchNorm2d)]
    if not norms:
        return Finding("BatchNorm", "skipped", f"{encoder.name} has no BatchNorm.")
    distances: list[float] = []

    def compare(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, nn.BatchNorm2d)
        if norm.running_mean is not None and norm.running_var is not None:
            mean, spread = inputs[0].mean((0, 2, 3)), (norm.running_var + norm.eps).sqrt()
            distances.append(float(((mean - norm.running_mean) / spread).abs().median()))

    batch = context.val.images[:BATCH_SIZE].to(context.device)
    with torch.no_grad():
        handles = [norm.register_forward_pre_hook(compare) for norm in norms]
        trunk(batch)
        for handle in handles:
            handle.remove()
        for norm in norms:
            norm.train()
        grid = trunk(batch).flatten(2).transpose(1, 2).contiguous()
    stored = context.val.features
    by_running = ImageFeatures(stored.vector[:BATCH_SIZE], None if stored.grid is None else stored.grid[:BATCH_SIZE])
    by_batch = ImageFeatures(grid.mean(1), grid)
    eval_cost, train_cost = (
        nats_per_word(context.checkpoint, features, context.val.token_ids[:BATCH_SIZE], context.device)
        for features in (by_running, by_batch)
    )
    distance, gap = sorted(distances)[len(distances) // 2], eval_cost - train_cost
    return make_finding(
        "BatchNorm",
        worst_severity(severity_by_limits(gap, 0.1, 0.5), severity_by_limits(distance, 3.0)),
        f"the means of a batch differ from the running means by {distance:.2f} standard deviations (median over "
        f"layers); the cross-entropy of the references is {eval_cost:.3f} nats per word with running statistics, "
        f"{train_cost:.3f} with those of the batch ({-gap:+.3f}).",
        "The model was trained with other statistics than it has when it generates: set encoder.batch_norm_eval=true.",
        {"distance": distance, "eval": eval_cost, "train": train_cost},
    )
