"""Encoder weights that an export omits because they equal, bit by bit, the published ones that every user has.

A frozen encoder is most of a small captioner's file, and its weights come with a package that captioner needs anyway.
The export names the blocks that it omits and the SHA-256 of their weights, which is verified when it is loaded.
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
from captioner.nn.encoders.build_encoder import published_weights
from captioner.nn.encoders.encoder import Encoder
from captioner.nn.encoders.encoder_weights import looks_like_file

_PREFIX = "encoder.trunk."


@dataclass(frozen=True)
class OmittedWeights:
    """blocks: the names in `Encoder.blocks` whose weights the file omits; sha256: of all these weights."""

    blocks: list[str]
    sha256: str


def omit_published_weights(
    weights: Mapping[str, Tensor], encoder: Encoder, config: EncoderConfig
) -> tuple[dict[str, Tensor], OmittedWeights | None]:
    """The model's weights without the blocks that equal the published ones, and which these are (None: no block).

    Raises WeightsError if the published weights are not available.
    """
    if not _is_published(config):
        return dict(weights), None
    published = _published(encoder, str(config.weights))
    same = [
        block
        for block in encoder.blocks
        if all(torch.equal(tensor, published[name]) for name, tensor in _weights_of_blocks(weights, [block]).items())
    ]
    if not same:
        return dict(weights), None
    omitted_weights = _weights_of_blocks(weights, same)
    kept = {name: tensor for name, tensor in weights.items() if name not in omitted_weights}
    return kept, OmittedWeights(same, _sha256_of(omitted_weights))


def restore_omitted_weights(
    omitted_weights: OmittedWeights, encoder: Encoder, config: EncoderConfig, folder: Path
) -> dict[str, Tensor]:
    """The weights that the checkpoint in `folder` omits, from the package or cache that has them on this machine.

    Raises WeightsError if they are not available, CheckpointError if they are not the ones that were omitted, and
    ConfigError if the settings cannot have omitted them.
    """
    if not _is_published(config):
        raise ConfigError(f"omitted_weights needs published weights, and encoder.weights is {config.weights!r}.")
    if unknown := sorted(set(omitted_weights.blocks) - set(encoder.blocks)):
        raise ConfigError(f"omitted_weights names {unknown[0]!r}, which is not a block of {config.name}.")
    weights = _weights_of_blocks(_published(encoder, str(config.weights)), omitted_weights.blocks)
    if _sha256_of(weights) != omitted_weights.sha256:
        raise CheckpointError(
            f"{folder} omits weights of {config.name} (encoder.weights={config.weights}), and those that are "
            "installed here differ from them: install the version of their package that it was exported with, or ask "
            "for an export with --whole."
        )
    return weights


def _is_published(config: EncoderConfig) -> bool:
    """Whether the weights are published: not random, and not a file, for a checkpoint must not choose files to read."""
    return config.weights is not None and not looks_like_file(config.weights)


def _published(encoder: Encoder, wanted: str) -> dict[str, Tensor]:
    """The published weights of all blocks, under the model's names."""
    published = published_weights(encoder, wanted)
    counts = {name for name in encoder.trunk.state_dict() if name.endswith("num_batches_tracked")}
    zeros = {name: torch.zeros((), dtype=torch.int64) for name in counts - set(published)}
    return {_PREFIX + name: tensor for name, tensor in (published | zeros).items()}


def _weights_of_blocks(weights: Mapping[str, Tensor], blocks: list[str]) -> dict[str, Tensor]:
    prefixes = tuple(f"{_PREFIX}{block}." for block in blocks)
    return {name: tensor for name, tensor in weights.items() if name.startswith(prefixes)}


def _sha256_of(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, shapes and values, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
