"""Hard attention's draws: the right probabilities, one cell, the same for an image in any batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from captioner.config import AttentionConfig, DecodeConfig
from captioner.decode import search
from captioner.nn.decoders import hard_attention
from captioner.nn.decoders.hard_attention import sample_locations
from captioner.nn.decoders.registry import build_decoder
from captioner.nn.packing import pack_captions
from captioner.nn.types import ImageFeatures
from captioner.text.vocabulary import SPECIAL_TOKENS
from tests.nn.decoders.decoder_checks import CAPTIONS, D, V, rows_of
from tests.nn.equations import attention_logits

P = 4
HARD = {"embedding_dim": 4, "hidden_dim": 5, "attention_dim": 3, "attention": "hard", "gate": "none", "dropout": 0.0}
CONFIGS = [
    AttentionConfig(**HARD, hard_at_test="sample"),
    AttentionConfig(**HARD, hard_at_test="sample", score="dot", cell="gru", layers=2),
]


def make(config: AttentionConfig) -> tuple[torch.nn.Module, ImageFeatures]:
    torch.manual_seed(1)
    decoder = build_decoder(config, V, D).double().eval()
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    grid = torch.randn(len(CAPTIONS), P, D, dtype=torch.float64)
    return decoder, ImageFeatures(grid.mean(1), grid, torch.tensor([11, 22, 33]))


def test_a_cell_is_drawn_as_often_as_it_weighs() -> None:
    """Exactly: of n numbers evenly spaced over [0, 1), cell i gets the n·α_i that fall into its part."""
    weights = torch.tensor([[0.125, 0.0, 0.5, 0.375]]).expand(1000, -1)
    numbers = (torch.arange(1000) + 0.5) / 1000
    assert torch.bincount(sample_locations(weights, numbers), minlength=4).tolist() == [125, 0, 500, 375]


def test_the_ends_of_the_unit_interval() -> None:
    weights = torch.tensor([[0.0, 0.3, 0.7, 0.0]] * 2)
    assert sample_locations(weights, torch.tensor([0.0, 1 - 2**-24])).tolist() == [1, 2]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.score)
def test_the_context_is_the_cell_that_was_drawn(config: AttentionConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Teacher-forced, and one word at a time: the equations with the drawn cell in the place of the mean."""
    decoder, features = make(config)
    packed = pack_captions(CAPTIONS)
    drawn: list[torch.Tensor] = []

    def remember(weights: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        drawn.append(sample_locations(weights, numbers))
        return drawn[-1]

    monkeypatch.setattr(hard_attention, "sample_locations", remember)
    answer = decoder(features, packed)
    cells = rows_of(packed, torch.cat(drawn))
    log_probs, attention = rows_of(packed, answer.sampled_attention.log_probs), rows_of(packed, answer.attention)
    assert len(set(torch.cat(drawn).tolist())) > 1
    for (image, slot), logits in rows_of(packed, answer.logits).items():
        words, own = [1, *CAPTIONS[image][slot]], cells[image, slot].tolist()
        expected, looked = attention_logits(decoder, config, features.grid[image].numpy(), words, own)
        np.testing.assert_allclose(logits, expected, atol=1e-10)
        np.testing.assert_allclose(attention[image, slot], looked, atol=1e-10)
        chosen = [np.log(alpha[cell]) for alpha, cell in zip(looked, own, strict=True)]
        np.testing.assert_allclose(log_probs[image, slot], chosen, atol=1e-10)
        one = ImageFeatures(*(tensor[image][None] for tensor in features))
        state = decoder.init_state(one)
        for word, cell, said in zip(words, own, logits, strict=True):
            step = decoder.step(torch.tensor([word]), state)
            assert step.attention.tolist() == [[float(cell == place) for place in range(P)]]
            np.testing.assert_allclose(step.logits[0].detach().numpy(), said, atol=1e-10)
            state = step.state


def test_the_entropy_is_that_of_where_it_looks() -> None:
    decoder, features = make(CONFIGS[0])
    answer = decoder(features, pack_captions(CAPTIONS))
    attention = answer.attention.detach().numpy()
    entropy = float(-(attention * np.log(attention)).sum())
    assert float(answer.losses["entropy"].total.detach()) == pytest.approx(-0.002 * entropy, abs=1e-9)


@pytest.mark.parametrize(("share", "drawn"), [(0.0, 1.0), (1.0, 0.0), (0.5, 0.5)])
def test_in_training_a_share_of_the_images_is_seen_by_expectation(share: float, drawn: float) -> None:
    config = AttentionConfig(**HARD, hard_expected_share=share)
    torch.manual_seed(0)
    decoder = build_decoder(config, V, D).train()
    grid = torch.randn(400, P, D)
    packed = pack_captions([[[4, 5], [6, 7]]] * 400)
    answer = decoder(ImageFeatures(grid.mean(1), grid), packed)
    by_lot = torch.zeros(400).index_add(
        0, packed.images[packed.rows], (answer.sampled_attention.log_probs != 0).float()
    )
    assert set(by_lot.tolist()) <= {0.0, 6.0}, "all captions of an image, or none"
    assert float((by_lot > 0).float().mean()) == pytest.approx(drawn, abs=0.08)


@pytest.mark.parametrize("name", ["greedy", "sample", "beam"])
def test_what_is_drawn_depends_on_image_and_seed_and_on_nothing_else(name: str) -> None:
    decoder, features = make(CONFIGS[0])
    features = ImageFeatures(features.vector, features.grid)

    def looked(which: list[int], seed: int) -> list[tuple[tuple[int, ...], list[int]]]:
        some = ImageFeatures(features.vector[which], features.grid[which])
        decode = DecodeConfig(name=name, max_length=12, min_length=12, seed=seed)
        found = search(decoder, some, decode, SPECIAL_TOKENS, image_ids=[f"photo {i}" for i in which])
        assert all(set(own[0].attention.flatten().tolist()) == {0.0, 1.0} for own in found)
        return [(own[0].tokens, own[0].attention.argmax(1).tolist()) for own in found]

    together = looked([0, 1, 2], 0)
    assert together == [looked([image], 0)[0] for image in range(3)] == looked([2, 1, 0], 0)[::-1]
    assert [cells for _, cells in together] != [cells for _, cells in looked([0, 1, 2], 1)]


def test_the_baseline_follows_the_cost_and_starts_where_training_does() -> None:
    decoder, _ = make(CONFIGS[0])
    expected = float(np.log(V))
    assert float(decoder.hard.baseline) == pytest.approx(expected)
    for cost in (2.0, 1.0, 4.0):
        decoder.hard.update_baseline(cost)
        expected = 0.9 * expected + 0.1 * cost
        assert float(decoder.hard.baseline) == pytest.approx(expected)
    assert "hard.baseline" in decoder.state_dict()
