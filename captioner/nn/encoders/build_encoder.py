"""Builds encoders from their settings, and reads their published weights."""

from __future__ import annotations

from torch import Tensor, nn

from captioner.config import ENCODERS, EncoderConfig
from captioner.errors import ConfigError
from captioner.nn.encoders import encoder_weights
from captioner.nn.encoders.encoder import Encoder
from captioner.nn.encoders.timm_network import timm_network
from captioner.nn.encoders.trunk import HEAD, EncoderNetwork


def build_encoder(config: EncoderConfig, *, load_weights: bool = True) -> Encoder:
    """The encoder that `config` describes: an entry of `ENCODERS`, a classification CNN of torchvision, or timm's.

    load_weights=False: nothing is read or downloaded; shapes, names and transform are the same, for a checkpoint's
    weights to be loaded into.

    Raises ConfigError for a name, block or size that is not possible, and WeightsError for weights that cannot be read
    or downloaded.
    """
    network = encoder_network(config)
    trunk, name = network.trunk, config.name
    if config.grid_size is not None and network.tokens is not None:
        raise ConfigError(
            f"encoder.grid_size={config.grid_size} has no effect on {name}, whose regions are patches: choose another "
            "encoder.image_size instead."
        )
    if config.grid_size is not None:
        trunk.add_module("grid", nn.AdaptiveAvgPool2d(config.grid_size))
        name = f"{name}_{config.grid_size}x{config.grid_size}"  # the feature cache tells it from the whole map's
    encoder = Encoder(
        name,
        trunk,
        network.transform,
        config.fine_tune_from,
        config.batch_norm_eval,
        config.gradient_checkpointing,
        network.read_weights,
        tokens=network.tokens,
        containers=network.containers,
        fuses=network.fuses,
    )
    if load_weights and config.weights is not None:
        encoder.trunk.load_state_dict(published_weights(encoder, config.weights), strict=False)
    return encoder


def encoder_network(config: EncoderConfig) -> EncoderNetwork:
    """The network that `config` names, with random weights. ConfigError for a name or a size that is not possible."""
    if config.library == "timm":
        return timm_network(config)
    if config.name in ENCODERS:
        network: EncoderNetwork = ENCODERS[config.name](config)
        return network
    from captioner.nn.encoders.torchvision_cnn import torchvision_network

    return torchvision_network(config)


def published_weights(encoder: Encoder, wanted: str) -> dict[str, Tensor]:
    """The trunk's weights that `encoder.weights` = `wanted` names, under the trunk's own names.

    Raises ConfigError for weights that do not exist, WeightsError for those that cannot be read or do not fit.
    """
    if encoder.read_weights is not None:
        state_dict, source = encoder.read_weights(wanted)
    elif encoder_weights.looks_like_file(wanted):
        state_dict, source = encoder_weights.read_weights_file(wanted)
    else:
        raise ConfigError(
            f"encoder.weights={wanted!r} does not exist for {encoder.name}: expected a state-dict file, "
            "or null (random)."
        )
    return encoder_weights.fit_to_trunk(encoder.trunk, state_dict, HEAD, source)


def available_encoders() -> list[str]:
    """Every name that `encoder.name` may have, besides those of timm."""
    from captioner.nn.encoders.torchvision_cnn import torchvision_names

    return sorted({*ENCODERS, *torchvision_names()})
