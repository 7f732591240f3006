"""Show, Attend and Tell against its equations in NumPy, and what must hold of attention."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from captioner.config import AttentionConfig
from captioner.nn.build import build_decoder
from captioner.nn.packing import pack_captions
from captioner.nn.state import ImageFeatures, repeat_rows
from tests.nn.equations import attention_logits, finite_difference_gradient
from tests.nn.test_recurrent import CAPTIONS, D, V, rows_of

P = 4
SMALL = {"embedding_dim": 4, "hidden_dim": 5, "attention_dim": 3}
CONFIGS = [
    AttentionConfig(**SMALL),
    AttentionConfig(**SMALL, gate="vector", tie_embeddings=True),
    AttentionConfig(**SMALL, gate="none", cell="gru", layers=2),
    AttentionConfig(**SMALL, cell="rnn"),
]


def make(config: AttentionConfig) -> tuple[torch.nn.Module, ImageFeatures]:
    torch.manual_seed(1)
    decoder = build_decoder(config, V, D).double().eval()
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    grid = torch.randn(len(CAPTIONS), P, D, dtype=torch.float64)
    return decoder, ImageFeatures(grid.mean(1), grid)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.cell}-{c.gate}")
def test_forward_is_the_equation(config: AttentionConfig) -> None:
    decoder, features = make(config)
    packed = pack_captions(CAPTIONS)
    answer = decoder(features, packed)
    attention = rows_of(packed, answer.attention)
    for (image, slot), logits in rows_of(packed, answer.logits).items():
        words = [1, *CAPTIONS[image][slot]]
        expected, looked = attention_logits(decoder, config, features.grid[image].numpy(), words)
        np.testing.assert_allclose(logits, expected, atol=1e-10)
        np.testing.assert_allclose(attention[image, slot], looked, atol=1e-10)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.cell}-{c.gate}")
def test_one_word_at_a_time_is_all_at_once(config: AttentionConfig) -> None:
    decoder, features = make(config)
    packed = pack_captions(CAPTIONS)
    for (image, slot), logits in rows_of(packed, decoder(features, packed).logits).items():
        one = ImageFeatures(features.vector[image][None], features.grid[image][None])
        state = decoder.init_state(one)
        for word, expected in zip([1, *CAPTIONS[image][slot]], logits, strict=True):
            step = decoder.step(torch.tensor([word]), state)
            np.testing.assert_allclose(step.logits[0].detach().numpy(), expected, atol=1e-10)
            state = step.state


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.cell}-{c.gate}")
def test_gradients_are_those_of_finite_differences(config: AttentionConfig) -> None:
    decoder, features = make(config)
    packed = pack_captions(CAPTIONS)

    def loss() -> torch.Tensor:
        answer = decoder(features, packed)
        return torch.nn.functional.cross_entropy(answer.logits, packed.targets) + (answer.attention**2).sum()

    loss().backward()
    for name, parameter in decoder.named_parameters():
        assert parameter.grad is not None, name
        index = int(parameter.grad.abs().argmax())
        expected = finite_difference_gradient(loss, parameter, index)
        assert float(parameter.grad.view(-1)[index]) == pytest.approx(expected, abs=1e-6), name


def test_attention_sums_to_one_and_no_weight_is_negative() -> None:
    decoder, features = make(CONFIGS[0])
    attention = decoder(features, pack_captions(CAPTIONS)).attention
    torch.testing.assert_close(attention.sum(1), torch.ones(len(attention), dtype=torch.float64))
    assert (attention >= 0).all()


def test_order_of_grid_cells_moves_the_weights_and_nothing_else() -> None:
    decoder, features = make(CONFIGS[0])
    packed, order = pack_captions(CAPTIONS), torch.tensor([2, 0, 3, 1])
    before = decoder(features, packed)
    after = decoder(ImageFeatures(features.vector, features.grid[:, order]), packed)
    torch.testing.assert_close(after.logits, before.logits, atol=1e-10, rtol=0)
    torch.testing.assert_close(after.attention, before.attention[:, order], atol=1e-10, rtol=0)


def test_beams_of_an_image_share_its_grid() -> None:
    decoder, features = make(CONFIGS[1])
    words = torch.tensor([4, 5, 6, 7, 8, 9])
    step = decoder.step(words, repeat_rows(decoder.init_state(features), 2))
    for row in range(6):
        one = ImageFeatures(features.vector[row // 2][None], features.grid[row // 2][None])
        alone = decoder.step(words[row : row + 1], decoder.init_state(one))
        torch.testing.assert_close(step.logits[row], alone.logits[0], atol=1e-12, rtol=0)
        torch.testing.assert_close(step.attention[row], alone.attention[0], atol=1e-12, rtol=0)


def test_without_a_grid_it_says_so() -> None:
    decoder, features = make(CONFIGS[0])
    with pytest.raises(ValueError, match="grid"):
        decoder.init_state(ImageFeatures(features.vector))
