"""Builds decoders from their settings."""

from __future__ import annotations

from typing import Any

from captioner.config import AttentionConfig, ModelConfig
from captioner.errors import ConfigError
from captioner.nn.decoders.adaptive_attention import AdaptiveAttentionDecoder
from captioner.nn.decoders.decoder import Decoder
from captioner.nn.decoders.show_attend_tell import AttentionDecoder
from captioner.registry import load_object


def attention_decoder(config: AttentionConfig, vocabulary_size: int, feature_dim: int) -> Decoder[Any]:
    """The decoder of `model.attention`. Adaptive attention attends after the LSTM, so it is a network of its own."""
    kind = AdaptiveAttentionDecoder if config.attention == "adaptive" else AttentionDecoder
    return kind(config, vocabulary_size, feature_dim)


def build_decoder(config: ModelConfig, vocabulary_size: int, feature_dim: int) -> Decoder[Any]:
    """The decoder that `config` names, with untrained weights. ConfigError where that cannot be imported or is not a
    `Decoder`."""
    reference = type(config).decoder
    try:
        build = load_object(reference)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"model.name={config.name}: the decoder {reference} cannot be imported ({type(error).__name__}: {error}). "
            f'Set {type(config).__name__}.decoder to "module:class" of the decoder.'
        ) from error
    if isinstance(build, type) and not issubclass(build, Decoder):
        raise ConfigError(
            f"model.name={config.name}: {reference} is not a captioner.nn.decoders.decoder.Decoder. "
            "Derive its class from that one."
        )
    decoder: Decoder[Any] = build(config, vocabulary_size, feature_dim)
    return decoder
