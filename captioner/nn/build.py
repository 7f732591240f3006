"""Name → model. To add a model: a dataclass in `config`, a file here, a line in `DECODERS`, a YAML in `conf/model/`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from captioner.config import AttentionConfig, ChenZitnickConfig, EncoderConfig, ModelConfig, MRNNConfig, RecurrentConfig
from captioner.errors import choose
from captioner.nn.adaptive_attention import AdaptiveAttentionDecoder
from captioner.nn.chen_zitnick import ChenZitnickDecoder
from captioner.nn.encoder import build_encoder
from captioner.nn.model import CaptioningModel
from captioner.nn.mrnn import MRNNDecoder
from captioner.nn.recurrent import RecurrentDecoder
from captioner.nn.show_attend_tell import AttentionDecoder
from captioner.schema import from_plain


def _attention_decoder(config: AttentionConfig, vocabulary_size: int, feature_dim: int) -> nn.Module:
    """Adaptive attention looks after the LSTM's step and feeds nothing back into it: another network."""
    kind = AdaptiveAttentionDecoder if config.attention == "adaptive" else AttentionDecoder
    return kind(config, vocabulary_size, feature_dim)


DECODERS: dict[str, tuple[type[ModelConfig], Callable[[Any, int, int], nn.Module]]] = {
    "recurrent": (RecurrentConfig, RecurrentDecoder),
    "attention": (AttentionConfig, _attention_decoder),
    "mrnn": (MRNNConfig, MRNNDecoder),
    "chen_zitnick": (ChenZitnickConfig, ChenZitnickDecoder),
}
"""Name → its settings and what builds it, called with (settings, vocabulary size, feature dimension)."""


def model_settings(raw: Any) -> ModelConfig:
    """A model's settings from plain values; `name` says which dataclass they are."""
    name = raw.get("name") if isinstance(raw, dict) else None
    kind, _ = DECODERS[choose("model.name", str(name), DECODERS)]
    return from_plain(kind, raw, "model")


def build_decoder(config: ModelConfig, vocabulary_size: int, feature_dim: int) -> nn.Module:
    """The decoder that `config.name` selects, with fresh weights."""
    _, decoder = DECODERS[choose("model.name", config.name, DECODERS)]
    return decoder(config, vocabulary_size, feature_dim)


def build_model(
    config: ModelConfig, encoder: EncoderConfig, vocabulary_size: int, *, load_weights: bool = True
) -> CaptioningModel:
    """Encoder and decoder together. `load_weights=False`: a bare encoder, for a checkpoint to fill."""
    built = build_encoder(encoder, load_weights=load_weights)
    return CaptioningModel(built, build_decoder(config, vocabulary_size, built.feature_dim))
