"""One captioner with the mean weights of several checkpoints of one run.

The weights θ̄ = 1/N Σ_n θ_n of checkpoints near the end of one training often do better than each of them (Vaswani et
al. 2017, section 6.1; Izmailov et al. 2018), at the cost of one model. Those of independent runs do not: their hidden
units have nothing to do with each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from captioner.checkpoint.best import find_best
from captioner.checkpoint.checkpoint import LoadedCheckpoint, load_checkpoint
from captioner.errors import CheckpointError
from captioner.nn.encoders.encoder import encode_alike


def load_average(
    run_folder: Path, average: str | None, device: torch.device | str = "cpu", which: str = "best"
) -> LoadedCheckpoint:
    """The mean of the checkpoints that `average` ("best3") names, see `find_best`; None: as `load_checkpoint`."""
    if average is None:
        return load_checkpoint(run_folder, device, which)
    return average_checkpoints([load_checkpoint(folder, device) for folder in find_best(run_folder, average)])


def average_checkpoints(
    checkpoints: Sequence[LoadedCheckpoint], weights: Sequence[float] | None = None
) -> LoadedCheckpoint:
    """The first checkpoint with the mean weights of all: its own model is changed, and the settings stay.

    weights: of the mean, one per checkpoint, with a sum of 1; None: equal ones. Weights and buffers of floats are
    averaged in float64, so that equal ones stay as they are bit by bit; integers and flags are those of the first.
    There is no calibration: it was fitted to one of them. The consensus predictor reads what the encoder gives, so it
    is that of the first where all have one encoder; else there is none, and the search weighs none. Of one checkpoint,
    this checkpoint itself.

    CheckpointError where two of them have another model, vocabulary or tokenizer.
    """
    first, *others = checkpoints
    if not others:
        return first
    for other in others:
        _check_alike(first, other)
    consensus, settings = first.consensus, first.settings
    if consensus and not all(encode_alike(first.model.encoder, other.model.encoder) for other in others):
        consensus, settings = None, replace(settings, decode=replace(settings.decode, consensus_weight=0.0))
    mean_weights([checkpoint.model for checkpoint in checkpoints], weights)
    averaged = tuple(checkpoint.path for checkpoint in checkpoints)
    return replace(first, settings=settings, calibration=None, consensus=consensus, averaged=averaged)


@torch.no_grad()
def mean_weights(models: Sequence[nn.Module], weights: Sequence[float] | None = None) -> None:
    """Give the first model the mean of the weights and buffers of all models, see `average_checkpoints`."""
    tensors = [model.state_dict() for model in models]
    done = set()  # tied weights are one tensor under several names
    for name, target in tensors[0].items():
        if target.is_floating_point() and target.data_ptr() not in done:
            done.add(target.data_ptr())
            target.copy_(_mean([of_model[name] for of_model in tensors], weights))


def _mean(tensors: Sequence[Tensor], weights: Sequence[float] | None) -> Tensor:
    """The mean in float64 (float32 on devices without it)."""
    wide = torch.float32 if tensors[0].device.type == "mps" else torch.float64
    total = torch.zeros_like(tensors[0], dtype=wide)
    for index, tensor in enumerate(tensors):
        total += tensor.to(wide) * (1.0 if weights is None else weights[index])
    return total / len(tensors) if weights is None else total


def _check_alike(first: LoadedCheckpoint, other: LoadedCheckpoint) -> None:
    """CheckpointError unless the weights of the two mean the same."""
    one, two = first.settings, other.settings
    differences = {
        "vocabularies": first.vocabulary != other.vocabulary,
        "tokenizers": one.tokenizer != two.tokenizer or first.tokenizer_model != other.tokenizer_model,
        "models": one.model != two.model,
        "encoders": one.encoder != two.encoder or one.transform != two.transform,
    }
    found = [what for what, differ in differences.items() if differ]
    if found:
        raise CheckpointError(
            f"{first.path} and {other.path} cannot be averaged: their {' and '.join(found)} differ, so they are not of "
            "one run. Checkpoints of several runs can caption together: an ensemble (docs/decoding.md)."
        )
