"""Are images prepared as the encoder needs them, and does its BatchNorm know their statistics?"""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor, nn

from captioner.doctor.context import BATCH, DiagnosticContext, nats_a_word
from captioner.doctor.findings import Finding, by_limits, judged, worst
from captioner.errors import CaptionerError
from captioner.nn.encoders.build_encoder import build_encoder
from captioner.nn.types import ImageFeatures


def check_pixels(context: DiagnosticContext) -> Finding:
    """Mean and spread of what the encoder reads, and the transform beside the one that its weights were made for."""
    transform, images = context.checkpoint.model.encoder.transform, context.val.images
    mean, spread = float(images.mean()), float(images.std())
    evidence = (
        f"what the encoder reads has mean {mean:.2f} and standard deviation {spread:.2f} (expected: about 0 and 1)"
    )
    try:
        described = replace(context.checkpoint.settings.encoder, image_size=transform.size)
        expected = build_encoder(described, load_weights=False).transform
        differs = (transform.mean, transform.std) != (expected.mean, expected.std)
    except CaptionerError:  # an encoder that this torchvision does not have
        differs = False
    if differs:
        evidence += (
            f"; mean {list(transform.mean)} and std {list(transform.std)} are subtracted and divided by, but its "
        )
        evidence += f"weights were made for {list(expected.mean)} and {list(expected.std)}"
    odd = abs(mean) > 2 or not 0.2 < spread < 4
    return judged(
        "normalised input",
        "serious" if odd or differs else None,
        evidence + ".",
        "Give transform.mean and transform.std back their values (config.json of the checkpoint) and train again.",
        {"mean": mean, "std": spread},
    )


def check_batch_norm(context: DiagnosticContext) -> Finding:
    """The running statistics beside those of a batch, and what the references cost with either."""
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

    batch = context.val.images[:BATCH].to(context.device)
    with torch.no_grad():
        handles = [norm.register_forward_pre_hook(compare) for norm in norms]
        trunk(batch)
        for handle in handles:
            handle.remove()
        for norm in norms:
            norm.train()
        grid = trunk(batch).flatten(2).transpose(1, 2).contiguous()
    stored = context.val.features
    own = ImageFeatures(stored.vector[:BATCH], None if stored.grid is None else stored.grid[:BATCH])
    by_batch = ImageFeatures(grid.mean(1), grid)
    eval_cost, train_cost = (
        nats_a_word(context.checkpoint, each, context.val.numbers[:BATCH], context.device) for each in (own, by_batch)
    )
    distance, gap = sorted(distances)[len(distances) // 2], eval_cost - train_cost
    return judged(
        "BatchNorm",
        worst(by_limits(gap, 0.1, 0.5), by_limits(distance, 3.0)),
        f"the means of a batch lie {distance:.2f} standard deviations from the running means (median over "
        "layers); a word "
        f"costs {eval_cost:.3f} nats with running statistics, {train_cost:.3f} with those of the batch ({-gap:+.3f}).",
        "The model was trained on statistics that it does not have when it captions: set encoder.batch_norm_eval=true.",
        {"distance": distance, "eval": eval_cost, "train": train_cost},
    )
