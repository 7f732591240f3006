"""AoA against its equations in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from captioner.config.attention_models import AoAConfig
from captioner.errors import ConfigError
from tests.nn.decoders.attending_configs import AOA, SMALL_AOA
from tests.nn.decoders.decoder_checks import check_that_forward_is_the_equations, make_attending
from tests.nn.equations import lstm, parameters, sigmoid, word_logits
from tests.nn.transformer_equations import heads_of


def name(config: AoAConfig) -> str:
    return f"{config.cell}-{config.layers}-{config.encoder_layers}"


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


@pytest.mark.parametrize("config", AOA[:2], ids=name)
def test_forward_is_the_equations(config: AoAConfig) -> None:
    check_that_forward_is_the_equations(
        *make_attending(config), lambda decoder, grid, _, words: equations(decoder, config, grid, words)
    )


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
        AoAConfig(**{**SMALL_AOA, **settings})
