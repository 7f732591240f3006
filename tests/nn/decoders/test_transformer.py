"""The transformer against its equations in NumPy, and against torch's own layers with the same weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from captioner.config import TransformerConfig
from captioner.errors import ConfigError
from captioner.nn.decoders.transformer import sinusoids
from captioner.nn.packing import pack_captions
from captioner.nn.types import ImageFeatures, repeat_rows
from tests.nn.decoders.attending_configs import SMALL_TRANSFORMER, TRANSFORMER
from tests.nn.decoders.decoder_checks import check_that_forward_is_the_equations, make_attending
from tests.nn.equations import parameters, word_logits
from tests.nn.transformer_equations import embed, feed_forward, multihead, normalize, sublayer


def name(config: TransformerConfig) -> str:
    return f"{config.norm}-{config.layer_norm}-{config.positions}-{config.embedding_dim}"


def equations(decoder: Any, config: TransformerConfig, grid: np.ndarray, words: list[int]) -> tuple[Any, Any]:
    """Logits (T, V) and weights (T, P) of one image and one caption."""
    p, heads = parameters(decoder), config.heads
    memory = np.maximum(grid @ p["grid.weight"].T + p["grid.bias"], 0)
    for layer in range(config.encoder_layers):
        prefix = f"encoder.{layer}"

        def attend(y: np.ndarray, prefix: str = prefix) -> np.ndarray:
            return multihead(p, f"{prefix}.self_attention", heads, y, y, False)[0]

        memory = sublayer(p, prefix, 0, config, memory, attend)
        memory = sublayer(p, prefix, 1, config, memory, lambda y, prefix=prefix: feed_forward(p, prefix, y))
    if config.norm == "pre" and config.encoder_layers:
        memory = normalize(p, "memory_norm", config, memory)
    x = embed(p, config, words)
    weights = np.zeros(0)
    for layer in range(config.layers):
        prefix = f"decoder.{layer}"

        def attend_to_words(y: np.ndarray, prefix: str = prefix) -> np.ndarray:
            return multihead(p, f"{prefix}.self_attention", heads, y, y, True)[0]

        def attend_to_image(y: np.ndarray, prefix: str = prefix) -> np.ndarray:
            nonlocal weights
            result, weights = multihead(p, f"{prefix}.memory_attention", heads, y, memory, False)
            return result

        x = sublayer(p, prefix, 0, config, x, attend_to_words)
        x = sublayer(p, prefix, 1, config, x, attend_to_image)
        x = sublayer(p, prefix, 2, config, x, lambda y, prefix=prefix: feed_forward(p, prefix, y))
    if config.norm == "pre":
        x = normalize(p, "output_norm", config, x)
    return np.array([word_logits(p, row) for row in x]), weights


@pytest.mark.parametrize("config", TRANSFORMER, ids=name)
def test_forward_is_the_equations(config: TransformerConfig) -> None:
    check_that_forward_is_the_equations(
        *make_attending(config), lambda decoder, grid, _, words: equations(decoder, config, grid, words)
    )


def copy_attention(source: Any, target: nn.MultiheadAttention) -> None:
    parts = (source.query, source.key, source.value)
    target.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
    target.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
    target.out_proj.load_state_dict(source.out.state_dict())


def torch_layer(kind: Any, source: Any, config: TransformerConfig) -> Any:
    """torch's own layer with the same weights."""
    layer = kind(
        config.hidden_dim,
        config.heads,
        config.feed_forward_dim,
        dropout=0.0,
        batch_first=True,
        norm_first=config.norm == "pre",
    )
    with torch.no_grad():
        copy_attention(source.self_attention, layer.self_attn)
        if hasattr(source, "memory_attention"):
            copy_attention(source.memory_attention, layer.multihead_attn)
    layer.linear1.load_state_dict(source.feed_forward[0].state_dict())
    layer.linear2.load_state_dict(source.feed_forward[3].state_dict())
    for number, norm in enumerate(source.norms, 1):
        getattr(layer, f"norm{number}").load_state_dict(norm.state_dict())
    return layer


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_torch_s_own_transformer_gives_the_same_logits(norm: str) -> None:
    config = replace(TRANSFORMER[0], norm=norm)
    decoder, features = make_attending(config)
    decoder.float()
    grid = features.grid.float()
    words = torch.tensor([[1, 4, 5, 6, 7]])
    packed = pack_captions([[words[0, 1:].tolist()]])
    encoder = nn.ModuleList(torch_layer(nn.TransformerEncoderLayer, layer, config) for layer in decoder.encoder)
    reference = nn.TransformerDecoder(torch_layer(nn.TransformerDecoderLayer, decoder.decoder[0], config), 2)
    reference.layers[1] = torch_layer(nn.TransformerDecoderLayer, decoder.decoder[1], config)
    reference.norm = decoder.output_norm if norm == "pre" else None
    with torch.no_grad():
        memory = torch.relu(decoder.grid(grid[:1]))
        for layer in encoder.eval():
            memory = layer(memory)
        x = decoder.embedding(words) * 8**0.5 + sinusoids(0, 5, 8).float()
        causal = torch.full((5, 5), float("-inf")).triu(1)
        expected = decoder.output(reference.eval()(x, decoder.memory_norm(memory), tgt_mask=causal)[0])
        found = decoder(ImageFeatures(grid[:1].mean(1), grid[:1]), packed).logits
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_a_step_projects_one_word_whatever_was_read_before() -> None:
    """The cache: every linear layer of a step reads N rows of one word, at the first step and at the tenth."""
    decoder, features = make_attending(TRANSFORMER[0])
    sizes: list[set[int]] = []

    def note(_: nn.Module, inputs: tuple[Tensor, ...], __: Tensor) -> None:
        sizes[-1].add(inputs[0].numel() // inputs[0].shape[-1])

    state = repeat_rows(decoder.init_state(features), 2)
    for module in decoder.modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(note)
    for _ in range(10):
        sizes.append(set())
        state = decoder.step(torch.full((6,), 4), state).state
    assert sizes == [{6}] * 10
    assert state.rows.keys[0].shape == (6, 10, 8)


def test_a_caption_beyond_the_learned_positions_is_one_message() -> None:
    decoder, features = make_attending(TRANSFORMER[3])
    state = decoder.init_state(features)
    for _ in range(9):
        state = decoder.step(torch.tensor([4, 5, 6]), state).state
    with pytest.raises(ConfigError, match=r"learned the positions of 9 words .* a caption became longer"):
        decoder.step(torch.tensor([4, 5, 6]), state)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"heads": 3}, r"model\.hidden_dim=8 cannot be divided by model\.heads=3"),
        ({"residual": True}, r"always has residual connections"),
        ({"cell": "lstm"}, r"model\.cell='lstm' does not exist"),
        ({"encoder_layers": -1}, r"model\.encoder_layers=-1"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TransformerConfig(**{**SMALL_TRANSFORMER, **settings})
