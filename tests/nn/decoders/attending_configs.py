"""Small settings of the decoders that attend to regions; the first of each are those of its equations' test."""

from __future__ import annotations

from typing import Any

from captioner.config import Att2inConfig, ModelConfig, TransformerConfig, UpDownConfig
from captioner.config.attention_models import AoAConfig, M2Config
from tests.nn.decoders.decoder_checks import D

SMALL_AOA: dict[str, Any] = {"embedding_dim": 3, "hidden_dim": 4, "heads": 2}
AOA = [
    AoAConfig(**SMALL_AOA, encoder_layers=2),
    AoAConfig(**SMALL_AOA, encoder_layers=0, tie_embeddings=True),
    AoAConfig(**SMALL_AOA, encoder_layers=1, cell="gru", layers=2, residual=True),
]

SMALL: dict[str, Any] = {"embedding_dim": 3, "hidden_dim": 4, "attention_dim": 5}
ATT2IN = [
    Att2inConfig(**SMALL, grid_dim=7),
    Att2inConfig(**SMALL, grid_dim=None, tie_embeddings=True),
    Att2inConfig(**SMALL, grid_dim=7, word_activation="relu"),
    Att2inConfig(**SMALL, grid_dim=7, layers=2, residual=True),
]
UPDOWN = [
    UpDownConfig(**SMALL),
    UpDownConfig(**SMALL, grid_dim=7, tie_embeddings=True),
    UpDownConfig(**SMALL, grid_dim=7, vector_dim=8, word_activation="relu"),
    UpDownConfig(**SMALL, vector_dim=8),
    UpDownConfig(**SMALL, cell="gru", layers=2, residual=True),
    UpDownConfig(**SMALL, cell="rnn", grid_dim=7),
]

SMALL_M2: dict[str, Any] = {"embedding_dim": 8, "hidden_dim": 8, "heads": 2, "feed_forward_dim": 10}
M2 = [
    M2Config(**SMALL_M2, layers=2, encoder_layers=2, memory_slots=3),
    M2Config(**SMALL_M2, layers=1, encoder_layers=3, memory_slots=0, norm="pre"),
    M2Config(**SMALL_M2, layers=2, encoder_layers=1, memory_slots=2, tie_embeddings=True, layer_norm="unbiased"),
]

SMALL_TRANSFORMER: dict[str, Any] = {**SMALL_M2, "layers": 2, "encoder_layers": 2}
TRANSFORMER = [
    TransformerConfig(**SMALL_TRANSFORMER),
    TransformerConfig(**SMALL_TRANSFORMER, norm="post"),
    TransformerConfig(**SMALL_TRANSFORMER, layer_norm="unbiased", tie_embeddings=True),
    TransformerConfig(**{**SMALL_TRANSFORMER, "encoder_layers": 0, "layers": 1}, positions="learned", longest=9),
    TransformerConfig(**{**SMALL_TRANSFORMER, "embedding_dim": 5, "heads": 8}, tie_embeddings=True),
]


def vector_dim_of(config: ModelConfig) -> int:
    """The length of the image vector that the decoder reads."""
    return getattr(config, "vector_dim", None) or D


def has_vector_of_its_own(config: ModelConfig) -> bool:
    """Whether that vector is another than the mean of the regions."""
    return getattr(config, "vector_dim", None) is not None
