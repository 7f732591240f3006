"""Up-Down against its equations in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from captioner.config import UpDownConfig
from captioner.errors import ConfigError
from captioner.nn.types import ImageFeatures
from tests.nn.decoders.attending_configs import UPDOWN, vector_dim_of
from tests.nn.decoders.decoder_checks import check_that_forward_is_the_equations, make_attending
from tests.nn.equations import lstm, parameters, softmax, word_logits


def name(config: UpDownConfig) -> str:
    return f"{config.cell}-{config.layers}-{config.grid_dim}-{config.vector_dim}"


def make(config: UpDownConfig) -> tuple[Any, ImageFeatures]:
    return make_attending(config, vector_dim_of(config))


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


@pytest.mark.parametrize("config", UPDOWN[:4], ids=name)
def test_forward_is_the_equations(config: UpDownConfig) -> None:
    check_that_forward_is_the_equations(
        *make(config), lambda decoder, grid, vector, words: equations(decoder, config, grid, vector, words)
    )


def test_a_vector_of_another_size_is_one_message() -> None:
    decoder, features = make(UPDOWN[3])
    with pytest.raises(ConfigError, match=r"model\.vector_dim=8: .* the encoder's have 6"):
        decoder.init_state(features._replace(vector=features.grid.mean(1)))


def test_attention_sees_the_word_that_is_read() -> None:
    """Unlike Show, Attend and Tell, whose attention is the same for every word read at this step."""
    decoder, features = make(UPDOWN[0])
    step = decoder.step(torch.tensor([4, 4, 4]), decoder.init_state(features))
    other = decoder.step(torch.tensor([5, 5, 5]), decoder.init_state(features))
    assert not torch.allclose(step.attention, other.attention)
