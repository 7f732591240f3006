"""Encoder weights that an export leaves out, because whoever loads it has them: the published ones, bit by bit.

A frozen encoder is most of a small captioner's file, and its weights come with a package that captioner needs anyway.
The export says which blocks it leaves out and what the SHA-256 of their numbers was; at load both must agree.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from captioner.config import EncoderConfig
from captioner.errors import CheckpointError, ConfigError
from captioner.nn.encoders.encoder import Encoder, published_weights
from captioner.nn.encoders.encoder_weights import looks_like_file

_PREFIX = "encoder.trunk."


@dataclass(frozen=True)
class OmittedWeights:
    """blocks: those of `Encoder.blocks` that the file does not hold; sha256: of all their numbers."""

    blocks: list[str]
    sha256: str


def omit_published_weights(
    weights: Mapping[str, Tensor], encoder: Encoder, config: EncoderConfig
) -> tuple[dict[str, Tensor], OmittedWeights | None]:
    """`weights` of a model without the blocks that are the published ones, and which those are (None: none is).

    Raises WeightsError where the published weights cannot be had.
    """
    if not _is_published(config):
        return dict(weights), None
    published = _published(encoder, str(config.weights))
    same = [
        block
        for block in encoder.blocks
        if all(torch.equal(tensor, published[name]) for name, tensor in _of_blocks(weights, [block]).items())
    ]
    if not same:
        return dict(weights), None
    omitted_weights = _of_blocks(weights, same)
    kept = {name: tensor for name, tensor in weights.items() if name not in omitted_weights}
    return kept, OmittedWeights(same, _sum_of(omitted_weights))


def restore_omitted_weights(
    omitted_weights: OmittedWeights, encoder: Encoder, config: EncoderConfig, folder: Path
) -> dict[str, Tensor]:
    """The weights that the checkpoint in `folder` leaves out, from where this machine has them.

    Raises WeightsError where they cannot be had, CheckpointError where they are not those that were left out.
    """
    if not _is_published(config):
        raise ConfigError(f"omitted_weights goes with published weights, and encoder.weights is {config.weights!r}.")
    if unknown := sorted(set(omitted_weights.blocks) - set(encoder.blocks)):
        raise ConfigError(f"omitted_weights names {unknown[0]!r}, which is no block of {config.name}.")
    weights = _of_blocks(_published(encoder, str(config.weights)), omitted_weights.blocks)
    if _sum_of(weights) != omitted_weights.sha256:
        raise CheckpointError(
            f"{folder} leaves out weights of {config.name} (encoder.weights={config.weights}), and those that are "
            "installed here are not the same: install the version of their package that it was exported with, or ask "
            "for an export with --whole."
        )
    return weights


def _is_published(config: EncoderConfig) -> bool:
    """Not random, and no file, which may be anywhere: a checkpoint never makes anyone read a file that it names."""
    return config.weights is not None and not looks_like_file(config.weights)


def _published(encoder: Encoder, wanted: str) -> dict[str, Tensor]:
    """Those of all blocks, under the model's names."""
    published = published_weights(encoder, wanted)
    counts = {name for name in encoder.trunk.state_dict() if name.endswith("num_batches_tracked")}
    zeros = {name: torch.zeros((), dtype=torch.int64) for name in counts - set(published)}
    return {_PREFIX + name: tensor for name, tensor in (published | zeros).items()}


def _of_blocks(weights: Mapping[str, Tensor], blocks: list[str]) -> dict[str, Tensor]:
    prefixes = tuple(f"{_PREFIX}{block}." for block in blocks)
    return {name: tensor for name, tensor in weights.items() if name.startswith(prefixes)}


def _sum_of(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, shapes and numbers, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
