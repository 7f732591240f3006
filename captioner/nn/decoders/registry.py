"""From settings to a decoder with fresh weights."""

from __future__ import annotations

from torch import nn

from captioner.config import AttentionConfig, ModelConfig
from captioner.nn.decoders.adaptive_attention import AdaptiveAttentionDecoder
from captioner.nn.decoders.show_attend_tell import AttentionDecoder
from captioner.registry import load_object


def attention_decoder(config: AttentionConfig, vocabulary_size: int, feature_dim: int) -> nn.Module:
    """Adaptive attention attends after the LSTM's step and feeds nothing back into it: it is another network."""
    kind = AdaptiveAttentionDecoder if config.attention == "adaptive" else AttentionDecoder
    return kind(config, vocabulary_size, feature_dim)


def build_decoder(config: ModelConfig, vocabulary_size: int, feature_dim: int) -> nn.Module:
    """The decoder of these settings, with fresh weights."""
    decoder: nn.Module = load_object(type(config).decoder)(config, vocabulary_size, feature_dim)
    return decoder
