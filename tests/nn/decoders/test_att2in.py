"""Att2in against its equations in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from captioner.config import Att2inConfig
from captioner.errors import ConfigError
from tests.nn.decoders.attending_configs import ATT2IN
from tests.nn.decoders.decoder_checks import check_that_forward_is_the_equations, make_attending
from tests.nn.equations import parameters, sigmoid, softmax, word_logits


def equations(decoder: Any, config: Att2inConfig, grid: np.ndarray, words: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Logits (T, V) and weights (T, P)."""
    p = parameters(decoder)
    v = grid if config.grid_dim is None else np.maximum(grid @ p["grid.weight"].T + p["grid.bias"], 0)
    h = c = np.zeros(config.hidden_dim)
    rows, weights = [], []
    for word in words:
        query = p["attention.query.weight"] @ h + p["attention.query.bias"]
        alpha = softmax(np.tanh(v @ p["attention.keys.weight"].T + query) @ p["attention.score.weight"][0])
        attended = alpha @ v
        x = p["embedding.weight"][word]
        x = np.maximum(x, 0) if config.word_activation == "relu" else x
        gates = p["stack.inputs.0.weight"] @ x + p["stack.inputs.0.bias"]
        i, f, o, first, second = np.split(gates + p["stack.cells.0.recurrent.weight"] @ h, 5)
        to_first, to_second = np.split(p["context_to_candidate.weight"] @ attended, 2)
        c = sigmoid(f) * c + sigmoid(i) * np.maximum(first + to_first, second + to_second)
        h = sigmoid(o) * np.tanh(c)
        rows.append(word_logits(p, h))
        weights.append(alpha)
    return np.array(rows), np.array(weights)


@pytest.mark.parametrize("config", ATT2IN[:3], ids=lambda c: f"{c.grid_dim}-{c.word_activation}")
def test_forward_is_the_equations(config: Att2inConfig) -> None:
    check_that_forward_is_the_equations(
        *make_attending(config), lambda decoder, grid, _, words: equations(decoder, config, grid, words)
    )


def test_the_image_enters_the_candidate_only() -> None:
    """With an input gate that is closed, another image changes nothing."""
    decoder, features = make_attending(ATT2IN[0])
    with torch.no_grad():
        decoder.stack.inputs[0].bias[:4] = -1e9
    other = features._replace(grid=features.grid + 1)
    first, second = (decoder.step(torch.tensor([4, 5, 6]), decoder.init_state(image)) for image in (features, other))
    assert torch.equal(first.logits, second.logits)
    assert not torch.equal(first.attention, second.attention)


def test_another_cell_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.cell='gru' does not exist"):
        Att2inConfig(cell="gru")
