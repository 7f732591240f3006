"""Builds an encoder and a decoder from their settings."""

from __future__ import annotations

from captioner.config import EncoderConfig, ModelConfig
from captioner.nn.decoders.build_decoder import build_decoder
from captioner.nn.encoders.build_encoder import build_encoder
from captioner.nn.model import CaptioningModel


def build_model(
    config: ModelConfig, encoder: EncoderConfig, vocabulary_size: int, *, load_weights: bool = True
) -> CaptioningModel:
    """A captioning model with an untrained decoder.

    load_weights=False: the encoder's pretrained weights are not loaded, because a checkpoint's will be.
    Raises ConfigError and WeightsError as `build_encoder` does.
    """
    network = build_encoder(encoder, load_weights=load_weights)
    return CaptioningModel(network, build_decoder(config, vocabulary_size, network.feature_dim))
