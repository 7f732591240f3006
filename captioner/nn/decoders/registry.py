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
    """The decoder that `config` names, with untrained weights. ConfigError where that is not a `Decoder`."""
    decoder = load_object(type(config).decoder)(config, vocabulary_size, feature_dim)
    if not isinstance(decoder, Decoder):
        raise ConfigError(
            f"model.name={config.name}: {type(config).decoder} makes a {type(decoder).__name__}, which is not a "
            "captioner.nn.decoders.decoder.Decoder: derive its class from that one."
        )
    return decoder
