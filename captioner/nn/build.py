"""Encoder and decoder together, from their settings."""

from __future__ import annotations

from captioner.config import EncoderConfig, ModelConfig
from captioner.nn.decoders.registry import build_decoder
from captioner.nn.encoders.encoder import build_encoder
from captioner.nn.model import CaptioningModel


def build_model(
    config: ModelConfig, encoder: EncoderConfig, vocabulary_size: int, *, load_weights: bool = True
) -> CaptioningModel:
    """A captioner with fresh decoder weights. `load_weights=False`: a bare encoder, for a checkpoint to fill."""
    built = build_encoder(encoder, load_weights=load_weights)
    return CaptioningModel(built, build_decoder(config, vocabulary_size, built.feature_dim))
