"""Every kind of attention and every score against its equations in NumPy, and their common properties.

Hard attention is tested here with the expected context; `test_hard_attention` tests its samples.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from captioner.config import AttentionConfig, DecodeConfig
from captioner.decode import search as run_search
from captioner.errors import ConfigError
from captioner.nn.decoders.build_decoder import build_decoder
from captioner.nn.packing import pack_captions
from captioner.nn.types import ImageFeatures, repeat_rows
from captioner.text.vocabulary import SPECIAL_TOKENS
from tests.nn.decoders.decoder_checks import (
    CAPTIONS,
    D,
    V,
    check_gradients,
    check_that_decoding_step_by_step_equals_teacher_forcing,
    rows_of,
)
from tests.nn.equations import adaptive_logits, attention_logits

P = 4
SMALL = {"embedding_dim": 4, "hidden_dim": 5, "attention_dim": 3}
CONFIGS = [
    AttentionConfig(**SMALL),
    AttentionConfig(**SMALL, gate="vector", tie_embeddings=True),
    AttentionConfig(**SMALL, gate="none", cell="gru", layers=2),
    AttentionConfig(**SMALL, cell="rnn"),
    AttentionConfig(**SMALL, grid_dim=6),
    AttentionConfig(**SMALL, score="dot"),
    AttentionConfig(**SMALL, score="additive_relu", gate="vector", initial_state="linear", output="hidden"),
    AttentionConfig(**SMALL, attention="hard", gate="none", score="additive_relu", output="hidden"),
    AttentionConfig(**SMALL, attention="none"),
    AttentionConfig(**SMALL, attention="hard", gate="none", cell="gru"),
    AttentionConfig(**SMALL, attention="adaptive", gate="none"),
    AttentionConfig(
        **SMALL,
        attention="adaptive",
        gate="none",
        score="dot",
        cell="lstm_full_gate_recurrence",
        layers=2,
        residual=True,
    ),
]


def name(config: AttentionConfig) -> str:
    return f"{config.attention}-{config.score}-{config.cell}-{config.gate}-{config.grid_dim}-{config.output}"


every_kind = pytest.mark.parametrize("config", CONFIGS, ids=name)


def make(config: AttentionConfig) -> tuple[torch.nn.Module, ImageFeatures]:
    torch.manual_seed(1)
    decoder = build_decoder(config, V, D).double().eval()
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    grid = torch.randn(len(CAPTIONS), P, D, dtype=torch.float64)
    return decoder, ImageFeatures(grid.mean(1), grid)


@every_kind
def test_forward_is_the_equation(config: AttentionConfig) -> None:
    decoder, features = make(config)
    packed = pack_captions(CAPTIONS)
    answer = decoder(features, packed)
    attention = rows_of(packed, answer.attention)
    for (image, slot), logits in rows_of(packed, answer.logits).items():
        words = [1, *CAPTIONS[image][slot]]
        equations = adaptive_logits if config.attention == "adaptive" else attention_logits
        expected, weights = equations(decoder, config, features.grid[image].numpy(), words)
        np.testing.assert_allclose(logits, expected, atol=1e-10)
        np.testing.assert_allclose(attention[image, slot], weights, atol=1e-10)


@every_kind
def test_decoding_step_by_step_equals_teacher_forcing(config: AttentionConfig) -> None:
    check_that_decoding_step_by_step_equals_teacher_forcing(*make(config))


@every_kind
def test_gradients_are_those_of_finite_differences(config: AttentionConfig) -> None:
    decoder, features = make(config)
    packed = pack_captions(CAPTIONS)

    def loss() -> torch.Tensor:
        answer = decoder(features, packed)
        return torch.nn.functional.cross_entropy(answer.logits, packed.targets) + (answer.attention**2).sum()

    check_gradients(decoder, loss)


@every_kind
def test_attention_sums_to_one_or_less_with_a_sentinel(config: AttentionConfig) -> None:
    decoder, features = make(config)
    attention = decoder(features, pack_captions(CAPTIONS)).attention
    assert (attention >= 0).all()
    if config.attention == "adaptive":
        assert (attention.sum(1) < 1).all()
        assert (attention.sum(1) > 0).all()
    else:
        torch.testing.assert_close(attention.sum(1), torch.ones(len(attention), dtype=torch.float64))


@every_kind
def test_a_caption_does_not_depend_on_the_others_of_its_batch(config: AttentionConfig) -> None:
    """Neither longer captions nor other images change it."""
    decoder, features = make(config)
    packed, alone = pack_captions(CAPTIONS), pack_captions([[CAPTIONS[0][1]]])
    answer = decoder(ImageFeatures(features.vector[:1], features.grid[:1]), alone)
    together = decoder(features, packed)
    np.testing.assert_allclose(answer.logits.detach(), rows_of(packed, together.logits)[0, 1], atol=1e-12)
    np.testing.assert_allclose(answer.attention.detach(), rows_of(packed, together.attention)[0, 1], atol=1e-12)


@every_kind
@pytest.mark.parametrize("search", ["greedy", "sample", "beam"])
def test_every_search_gives_an_image_the_same_in_a_batch_as_alone(config: AttentionConfig, search: str) -> None:
    decoder, features = make(config)
    decode = DecodeConfig(name=search, max_length=6)
    together = run_search(decoder, features, decode, SPECIAL_TOKENS, image_ids=["a", "b", "c"])
    for image, image_id in enumerate("abc"):
        one = ImageFeatures(features.vector[image][None], features.grid[image][None])
        (alone,) = run_search(decoder, one, decode, SPECIAL_TOKENS, image_ids=[image_id])
        assert alone[0].tokens == together[image][0].tokens
        assert alone[0].log_prob == pytest.approx(together[image][0].log_prob, abs=1e-10)
        torch.testing.assert_close(alone[0].attention, together[image][0].attention, atol=1e-10, rtol=0)


def test_without_attention_every_region_has_the_same_weight() -> None:
    decoder, features = make(next(config for config in CONFIGS if config.attention == "none"))
    attention = decoder(features, pack_captions(CAPTIONS)).attention
    assert torch.equal(attention, torch.full_like(attention, 1 / P))
    assert not list(decoder.attention.parameters())


def test_the_sentinel_needs_a_memory_and_is_its_own_gate() -> None:
    with pytest.raises(ConfigError, match=r"model.cell=gru: the sentinel reads the cell's memory"):
        AttentionConfig(attention="adaptive", gate="none", cell="gru")
    with pytest.raises(ConfigError, match=r"cannot go with model.gate=scalar"):
        AttentionConfig(attention="adaptive")
    with pytest.raises(ConfigError, match=r"Did you mean adaptive\?"):
        AttentionConfig(attention="adaptve")


@every_kind
def test_the_order_of_regions_permutes_only_the_weights(config: AttentionConfig) -> None:
    decoder, features = make(config)
    packed, order = pack_captions(CAPTIONS), torch.tensor([2, 0, 3, 1])
    before = decoder(features, packed)
    after = decoder(ImageFeatures(features.vector, features.grid[:, order]), packed)
    torch.testing.assert_close(after.logits, before.logits, atol=1e-10, rtol=0)
    torch.testing.assert_close(after.attention, before.attention[:, order], atol=1e-10, rtol=0)


@every_kind
def test_beams_of_an_image_share_its_grid(config: AttentionConfig) -> None:
    decoder, features = make(config)
    words = torch.tensor([4, 5, 6, 7, 8, 9])
    step = decoder.step(words, repeat_rows(decoder.init_state(features), 2))
    for row in range(6):
        one = ImageFeatures(features.vector[row // 2][None], features.grid[row // 2][None])
        alone = decoder.step(words[row : row + 1], decoder.init_state(one))
        torch.testing.assert_close(step.logits[row], alone.logits[0], atol=1e-12, rtol=0)
        torch.testing.assert_close(step.attention[row], alone.attention[0], atol=1e-12, rtol=0)


@every_kind
def test_a_missing_grid_is_an_error(config: AttentionConfig) -> None:
    decoder, features = make(config)
    with pytest.raises(ValueError, match="grid"):
        decoder.init_state(ImageFeatures(features.vector))
