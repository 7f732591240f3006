"""Att2in against its equations in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from captioner.config import Att2inConfig
from captioner.errors import ConfigError
from captioner.nn.packing import pack_captions
from tests.nn.decoders.decoder_checks import (
    CAPTIONS,
    check_gradients,
    check_that_beams_of_an_image_share_its_features,
    check_that_decoding_step_by_step_equals_teacher_forcing,
    check_that_padding_changes_nothing,
    make_attending,
    mean_cross_entropy,
    rows_of,
)
from tests.nn.equations import parameters, sigmoid, softmax, word_logits

SMALL: dict[str, Any] = {"embedding_dim": 3, "hidden_dim": 4, "attention_dim": 5}
CONFIGS = [
    Att2inConfig(**SMALL, grid_dim=7),
    Att2inConfig(**SMALL, grid_dim=None, tie_embeddings=True),
    Att2inConfig(**SMALL, grid_dim=7, word_activation="relu"),
]
DEEP = Att2inConfig(**SMALL, grid_dim=7, layers=2, residual=True)
every_kind = pytest.mark.parametrize(
    "config", [*CONFIGS, DEEP], ids=lambda c: f"{c.layers}-{c.grid_dim}-{c.word_activation}"
)


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


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.grid_dim}-{c.word_activation}")
def test_forward_is_the_equations(config: Att2inConfig) -> None:
    decoder, features = make_attending(config)
    packed = pack_captions(CAPTIONS)
    output = decoder(features, packed)
    attention = rows_of(packed, output.attention)
    for (image, slot), logits in rows_of(packed, output.logits).items():
        expected, weights = equations(decoder, config, features.grid[image].numpy(), [1, *CAPTIONS[image][slot]])
        np.testing.assert_allclose(logits, expected, atol=1e-10)
        np.testing.assert_allclose(attention[image, slot], weights, atol=1e-10)


@every_kind
def test_decoding_step_by_step_equals_teacher_forcing(config: Att2inConfig) -> None:
    check_that_decoding_step_by_step_equals_teacher_forcing(*make_attending(config))


@every_kind
def test_gradients_are_those_of_finite_differences(config: Att2inConfig) -> None:
    decoder, features = make_attending(config)
    check_gradients(decoder, mean_cross_entropy(decoder, features))


@every_kind
def test_padding_changes_nothing(config: Att2inConfig) -> None:
    check_that_padding_changes_nothing(make_attending(config)[0])


@every_kind
def test_beams_of_an_image_share_its_features(config: Att2inConfig) -> None:
    check_that_beams_of_an_image_share_its_features(*make_attending(config))


def test_the_image_enters_the_candidate_only() -> None:
    """With an input gate that is closed, another image changes nothing."""
    decoder, features = make_attending(CONFIGS[0])
    with torch.no_grad():
        decoder.stack.inputs[0].bias[:4] = -1e9
    other = features._replace(grid=features.grid + 1)
    first, second = (decoder.step(torch.tensor([4, 5, 6]), decoder.init_state(image)) for image in (features, other))
    assert torch.equal(first.logits, second.logits)
    assert not torch.equal(first.attention, second.attention)


def test_another_cell_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.cell='gru' does not exist"):
        Att2inConfig(cell="gru")
