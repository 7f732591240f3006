"""What a model that captions is, in a few lines, such as a notebook shows."""

from __future__ import annotations

import torch

from captioner.call_settings import describe_search
from captioner.checkpoint.checkpoint import LoadedCheckpoint
from captioner.config import DecodeConfig
from captioner.nn.encoders.encoder import Encoder


def describe_model(
    name: str, checkpoint: LoadedCheckpoint, device: torch.device, decode: DecodeConfig, training_data: str | None
) -> str:
    """Name, decoder, encoders, vocabulary, training data and search of a model, one a line."""
    parameters = sum(parameter.numel() for parameter in checkpoint.model.decoder.parameters())
    lines = [
        f"Captioner {name} {_step(checkpoint)}on {device}",
        f"decoder: {decoder_names(checkpoint)}, {parameters:,} parameters",
        *map(_describe_encoder, checkpoint.model.encoders),
        f"vocabulary: {len(checkpoint.vocabulary):,} tokens",
        f"training data: {training_data or 'unknown'}",
        f"decoding: {describe_search(decode)}",
    ]
    return "\n  ".join(lines)


def _step(checkpoint: LoadedCheckpoint) -> str:
    """The step of a checkpoint, or the steps of those that it averages, in parentheses; "" where they are not known."""
    if checkpoint.averaged:
        return f"(mean of {', '.join(path.name for path in checkpoint.averaged)}) "
    step = "" if checkpoint.members else checkpoint.path.name
    return f"({step}) " if step.startswith("step-") else ""


def decoder_names(checkpoint: LoadedCheckpoint) -> str:
    """The name of the decoder, or those of the members of an ensemble, such as "attention + updown"."""
    return " + ".join(one.settings.model.name for one in checkpoint.members or (checkpoint,))


def _describe_encoder(encoder: Encoder) -> str:
    """An encoder in one line."""
    if not encoder.encodes_images:
        return f"encoder: none, features made elsewhere with {encoder.feature_dim:,} values per region"
    (rows, columns), size = encoder.grid_size, encoder.transform.size
    return f"encoder: {encoder.name}, {size} × {size} pixels, {rows} × {columns} regions"
