"""AoA against its equations in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from captioner.config.attention_models import AoAConfig
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
from tests.nn.equations import lstm, parameters, sigmoid, word_logits
from tests.nn.transformer_equations import heads_of

SMALL: dict[str, Any] = {"embedding_dim": 3, "hidden_dim": 4, "heads": 2}
CONFIGS = [
    AoAConfig(**SMALL, encoder_layers=2),
    AoAConfig(**SMALL, encoder_layers=0, tie_embeddings=True),
]
OTHERS = [AoAConfig(**SMALL, encoder_layers=1, cell="gru", layers=2, residual=True)]


def name(config: AoAConfig) -> str:
    return f"{config.cell}-{config.layers}-{config.encoder_layers}"


every_kind = pytest.mark.parametrize("config", [*CONFIGS, *OTHERS], ids=name)


def aoa(p: dict[str, np.ndarray], prefix: str, heads: int, x: np.ndarray, regions: np.ndarray) -> Any:
    """g ∘ i (T, H), and the weights (T, P)."""
    attended, weights = heads_of(p, prefix, heads, x, regions, False)
    queries = x @ p[f"{prefix}.query.weight"].T + p[f"{prefix}.query.bias"]
    both = np.concatenate([queries, attended], axis=1)
    information = both @ p[f"{prefix}.information.weight"].T + p[f"{prefix}.information.bias"]
    gate = sigmoid(both @ p[f"{prefix}.gate.weight"].T + p[f"{prefix}.gate.bias"])
    return gate * information, weights


def equations(decoder: Any, config: AoAConfig, grid: np.ndarray, words: list[int]) -> tuple[Any, Any]:
    """Logits (T, V) and weights (T, P) of one image and one caption."""
    p = parameters(decoder)
    regions = np.maximum(grid @ p["grid.weight"].T + p["grid.bias"], 0)
    for layer in range(config.encoder_layers):
        x = regions + aoa(p, f"encoder.{layer}.attention", config.heads, regions, regions)[0]
        scaled = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
        regions = p[f"encoder.{layer}.norm.weight"] * scaled + p[f"encoder.{layer}.norm.bias"]
    h = c = context = np.zeros(config.hidden_dim)
    rows, all_weights = [], []
    for word in words:
        gates = p["lstm.inputs.0.weight"] @ p["embedding.weight"][word] + p["lstm.inputs.0.bias"]
        gates = gates + p["context_to_gates.weight"] @ (regions.mean(0) + context)
        h, c = lstm(gates, h, c, p["lstm.cells.0.recurrent.weight"])
        results, weights = aoa(p, "attention", config.heads, h[None], regions)
        context = results[0]
        rows.append(word_logits(p, context))
        all_weights.append(weights[0])
    return np.array(rows), np.array(all_weights)


@pytest.mark.parametrize("config", CONFIGS, ids=name)
def test_forward_is_the_equations(config: AoAConfig) -> None:
    decoder, features = make_attending(config)
    packed = pack_captions(CAPTIONS)
    output = decoder(features, packed)
    attention = rows_of(packed, output.attention)
    assert features.grid is not None
    for (image, slot), logits in rows_of(packed, output.logits).items():
        expected, weights = equations(decoder, config, features.grid[image].numpy(), [1, *CAPTIONS[image][slot]])
        np.testing.assert_allclose(logits, expected, atol=1e-10)
        np.testing.assert_allclose(attention[image, slot], weights, atol=1e-10)


@every_kind
def test_decoding_step_by_step_equals_teacher_forcing(config: AoAConfig) -> None:
    check_that_decoding_step_by_step_equals_teacher_forcing(*make_attending(config))


@every_kind
def test_gradients_are_those_of_finite_differences(config: AoAConfig) -> None:
    decoder, features = make_attending(config)
    check_gradients(decoder, mean_cross_entropy(decoder, features))


@every_kind
def test_padding_changes_nothing(config: AoAConfig) -> None:
    check_that_padding_changes_nothing(make_attending(config)[0])


@every_kind
def test_beams_of_an_image_share_its_features(config: AoAConfig) -> None:
    check_that_beams_of_an_image_share_its_features(*make_attending(config))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"heads": 3}, r"model\.hidden_dim=4 cannot be divided by model\.heads=3"),
        ({"heads": 0}, r"model\.heads=0"),
        ({"encoder_layers": -1}, r"model\.encoder_layers=-1"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AoAConfig(**{**SMALL, **settings})
