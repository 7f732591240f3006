"""Up-Down against its equations in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from captioner.config import UpDownConfig
from captioner.errors import ConfigError
from captioner.nn.packing import pack_captions
from captioner.nn.types import ImageFeatures
from tests.nn.decoders.decoder_checks import (
    CAPTIONS,
    D,
    check_gradients,
    check_that_beams_of_an_image_share_its_features,
    check_that_decoding_step_by_step_equals_teacher_forcing,
    check_that_padding_changes_nothing,
    make_attending,
    mean_cross_entropy,
    rows_of,
)
from tests.nn.equations import lstm, parameters, softmax, word_logits

SMALL: dict[str, Any] = {"embedding_dim": 3, "hidden_dim": 4, "attention_dim": 5}
CONFIGS = [
    UpDownConfig(**SMALL),
    UpDownConfig(**SMALL, grid_dim=7, tie_embeddings=True),
    UpDownConfig(**SMALL, grid_dim=7, vector_dim=8, word_activation="relu"),
    UpDownConfig(**SMALL, vector_dim=8),
]
OTHERS = [UpDownConfig(**SMALL, cell="gru", layers=2, residual=True), UpDownConfig(**SMALL, cell="rnn", grid_dim=7)]


def name(config: UpDownConfig) -> str:
    return f"{config.cell}-{config.layers}-{config.grid_dim}-{config.vector_dim}"


every_kind = pytest.mark.parametrize("config", [*CONFIGS, *OTHERS], ids=name)


def make(config: UpDownConfig) -> tuple[Any, ImageFeatures]:
    return make_attending(config, config.vector_dim or D)


def equations(
    decoder: Any, config: UpDownConfig, grid: np.ndarray, vector: np.ndarray, words: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Logits (T, V) and weights (T, P), eq. 1 to 7."""
    p = parameters(decoder)
    if config.grid_dim is not None:
        grid = np.maximum(grid @ p["grid.weight"].T + p["grid.bias"], 0)
        vector = np.maximum(p["vector.weight"] @ vector + p["vector.bias"], 0)
    h1 = c1 = h2 = c2 = np.zeros(config.hidden_dim)
    rows, weights = [], []
    for word in words:
        x = p["embedding.weight"][word]
        x = np.maximum(x, 0) if config.word_activation == "relu" else x
        gates = p["attention_lstm.inputs.0.weight"] @ x + p["attention_lstm.inputs.0.bias"]
        gates = gates + p["image_to_gates.weight"] @ vector + p["language_to_gates.weight"] @ h2
        h1, c1 = lstm(gates, h1, c1, p["attention_lstm.cells.0.recurrent.weight"])
        query = p["attention.query.weight"] @ h1 + p["attention.query.bias"]
        alpha = softmax(np.tanh(grid @ p["attention.keys.weight"].T + query) @ p["attention.score.weight"][0])
        gates = p["language_lstm.inputs.0.weight"] @ h1 + p["language_lstm.inputs.0.bias"]
        gates = gates + p["context_to_gates.weight"] @ (alpha @ grid)
        h2, c2 = lstm(gates, h2, c2, p["language_lstm.cells.0.recurrent.weight"])
        rows.append(word_logits(p, h2))
        weights.append(alpha)
    return np.array(rows), np.array(weights)


@pytest.mark.parametrize("config", CONFIGS, ids=name)
def test_forward_is_the_equations(config: UpDownConfig) -> None:
    decoder, features = make(config)
    packed = pack_captions(CAPTIONS)
    output = decoder(features, packed)
    attention = rows_of(packed, output.attention)
    for (image, slot), logits in rows_of(packed, output.logits).items():
        grid, vector = features.grid[image].numpy(), features.vector[image].numpy()
        expected, weights = equations(decoder, config, grid, vector, [1, *CAPTIONS[image][slot]])
        np.testing.assert_allclose(logits, expected, atol=1e-10)
        np.testing.assert_allclose(attention[image, slot], weights, atol=1e-10)


@pytest.mark.parametrize("config", [c for c in [*CONFIGS, *OTHERS] if c.vector_dim is None], ids=name)
def test_padding_changes_nothing(config: UpDownConfig) -> None:
    check_that_padding_changes_nothing(make(config)[0])


@every_kind
def test_decoding_step_by_step_equals_teacher_forcing(config: UpDownConfig) -> None:
    check_that_decoding_step_by_step_equals_teacher_forcing(*make(config))


@every_kind
def test_gradients_are_those_of_finite_differences(config: UpDownConfig) -> None:
    decoder, features = make(config)
    check_gradients(decoder, mean_cross_entropy(decoder, features))


@every_kind
def test_beams_of_an_image_share_its_features(config: UpDownConfig) -> None:
    check_that_beams_of_an_image_share_its_features(*make(config))


def test_a_vector_of_another_size_is_one_message() -> None:
    decoder, features = make(CONFIGS[3])
    with pytest.raises(ConfigError, match=r"model\.vector_dim=8: .* the encoder's have 6"):
        decoder.init_state(features._replace(vector=features.grid.mean(1)))


def test_attention_sees_the_word_that_is_read() -> None:
    """Unlike Show, Attend and Tell, whose attention is the same for every word read at this step."""
    decoder, features = make(CONFIGS[0])
    step = decoder.step(torch.tensor([4, 4, 4]), decoder.init_state(features))
    other = decoder.step(torch.tensor([5, 5, 5]), decoder.init_state(features))
    assert not torch.allclose(step.attention, other.attention)
