"""M² against its equations in NumPy, and against the transformer where the two are one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from captioner.config.attention_models import M2Config, TransformerConfig
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
from tests.nn.equations import parameters, sigmoid, word_logits
from tests.nn.transformer_equations import embed, feed_forward, multihead, normalize, sublayer

SMALL: dict[str, Any] = {"embedding_dim": 8, "hidden_dim": 8, "heads": 2, "feed_forward_dim": 10}
CONFIGS = [
    M2Config(**SMALL, layers=2, encoder_layers=2, memory_slots=3),
    M2Config(**SMALL, layers=1, encoder_layers=3, memory_slots=0, norm="pre"),
    M2Config(**SMALL, layers=2, encoder_layers=1, memory_slots=2, tie_embeddings=True, layer_norm="unbiased"),
]


def name(config: M2Config) -> str:
    return f"{config.norm}-{config.layers}-{config.encoder_layers}-{config.memory_slots}"


every_kind = pytest.mark.parametrize("config", CONFIGS, ids=name)


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


@every_kind
def test_forward_is_the_equations(config: M2Config) -> None:
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
def test_decoding_step_by_step_equals_teacher_forcing(config: M2Config) -> None:
    check_that_decoding_step_by_step_equals_teacher_forcing(*make_attending(config))


@every_kind
def test_gradients_are_those_of_finite_differences(config: M2Config) -> None:
    decoder, features = make_attending(config)
    check_gradients(decoder, mean_cross_entropy(decoder, features))


@every_kind
def test_padding_changes_nothing(config: M2Config) -> None:
    check_that_padding_changes_nothing(make_attending(config)[0])


@every_kind
def test_beams_of_an_image_share_its_features(config: M2Config) -> None:
    check_that_beams_of_an_image_share_its_features(*make_attending(config))


def test_one_encoder_layer_without_slots_and_with_open_gates_is_the_transformer() -> None:
    shared = {**SMALL, "layers": 2, "encoder_layers": 1, "norm": "post"}
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
        M2Config(**{**SMALL, **settings})
