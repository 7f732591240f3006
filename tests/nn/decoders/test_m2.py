"""M² against its equations in NumPy, and against the transformer where the two are one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from captioner.config.attention_models import M2Config, TransformerConfig
from captioner.errors import ConfigError
from captioner.nn.packing import pack_captions
from tests.nn.decoders.attending_configs import M2, SMALL_M2
from tests.nn.decoders.decoder_checks import CAPTIONS, check_that_forward_is_the_equations, make_attending
from tests.nn.equations import parameters, sigmoid, word_logits
from tests.nn.transformer_equations import embed, feed_forward, multihead, normalize, sublayer


def name(config: M2Config) -> str:
    return f"{config.norm}-{config.layers}-{config.encoder_layers}-{config.memory_slots}"


def equations(decoder: Any, config: M2Config, grid: np.ndarray, words: list[int]) -> tuple[Any, Any]:
    """Logits (T, V) and weights (T, P) of one image and one caption."""
    p, heads = parameters(decoder), config.heads
    memory, levels = np.maximum(grid @ p["grid.weight"].T + p["grid.bias"], 0), []
    for layer in range(config.encoder_layers):
        prefix = f"encoder.{layer}"

        def attend(y: np.ndarray, prefix: str = prefix) -> np.ndarray:
            slots = (p[f"{prefix}.slot_keys"], p[f"{prefix}.slot_values"])
            return multihead(p, f"{prefix}.self_attention", heads, y, y, False, slots)[0]

        memory = sublayer(p, prefix, 0, config, memory, attend)
        memory = sublayer(p, prefix, 1, config, memory, lambda y, prefix=prefix: feed_forward(p, prefix, y))
        levels.append(normalize(p, "memory_norm", config, memory) if config.norm == "pre" else memory)
    x = embed(p, config, words)
    all_weights: list[np.ndarray] = []
    for layer in range(config.layers):
        prefix = f"decoder.{layer}"

        def attend_to_words(y: np.ndarray, prefix: str = prefix) -> np.ndarray:
            return multihead(p, f"{prefix}.self_attention", heads, y, y, True)[0]

        def mesh(y: np.ndarray, prefix: str = prefix) -> np.ndarray:
            total = np.zeros_like(y)
            all_weights.clear()
            for level, regions in enumerate(levels):
                found, weights = multihead(p, f"{prefix}.memory_attention", heads, y, regions, False)
                gate = np.concatenate([y, found], axis=1) @ p[f"{prefix}.gates.{level}.weight"].T
                total += sigmoid(gate + p[f"{prefix}.gates.{level}.bias"]) * found
                all_weights.append(weights)
            return total

        x = sublayer(p, prefix, 0, config, x, attend_to_words)
        x = sublayer(p, prefix, 1, config, x, mesh)
        x = sublayer(p, prefix, 2, config, x, lambda y, prefix=prefix: feed_forward(p, prefix, y))
    if config.norm == "pre":
        x = normalize(p, "output_norm", config, x)
    return np.array([word_logits(p, row) for row in x]), np.mean(all_weights, axis=0)


@pytest.mark.parametrize("config", M2, ids=name)
def test_forward_is_the_equations(config: M2Config) -> None:
    check_that_forward_is_the_equations(
        *make_attending(config), lambda decoder, grid, _, words: equations(decoder, config, grid, words)
    )


def test_one_encoder_layer_without_slots_and_with_open_gates_is_the_transformer() -> None:
    shared = {**SMALL_M2, "layers": 2, "encoder_layers": 1, "norm": "post"}
    decoder, features = make_attending(M2Config(**shared, memory_slots=0))
    transformer, _ = make_attending(TransformerConfig(**shared))
    for layer in decoder.decoder:  # type: ignore[union-attr]
        layer.gates[0].weight.data.zero_()
        layer.gates[0].bias.data.fill_(50)
    missing = transformer.load_state_dict(decoder.state_dict(), strict=False)
    assert not missing.missing_keys
    packed = pack_captions(CAPTIONS)
    expected, found = transformer(features, packed), decoder(features, packed)
    torch.testing.assert_close(found.logits, expected.logits, atol=1e-12, rtol=0)
    torch.testing.assert_close(found.attention, expected.attention, atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"encoder_layers": 0}, r"model\.encoder_layers=0"),
        ({"memory_slots": -1}, r"model\.memory_slots=-1"),
        ({"heads": 3}, r"model\.hidden_dim=8 cannot be divided by model\.heads=3"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        M2Config(**{**SMALL_M2, **settings})
