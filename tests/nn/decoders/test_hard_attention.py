"""The samples of hard attention: the right probabilities, one location, the same for an image in any batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from captioner.config import AttentionConfig, DecodeConfig
from captioner.decode import search
from captioner.nn.decoders import hard_attention
from captioner.nn.decoders.build_decoder import build_decoder
from captioner.nn.decoders.hard_attention import sample_locations
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


def test_a_location_is_sampled_with_its_weight() -> None:
    """Of n numbers evenly spaced over [0, 1), exactly n·α_i select location i."""
    weights = torch.tensor([[0.125, 0.0, 0.5, 0.375]]).expand(1000, -1)
    numbers = (torch.arange(1000) + 0.5) / 1000
    assert torch.bincount(sample_locations(weights, numbers), minlength=4).tolist() == [125, 0, 500, 375]


def test_the_ends_of_the_unit_interval() -> None:
    weights = torch.tensor([[0.0, 0.3, 0.7, 0.0]] * 2)
    assert sample_locations(weights, torch.tensor([0.0, 1 - 2**-24])).tolist() == [1, 2]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.score)
def test_the_context_is_the_sampled_region(config: AttentionConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Teacher-forced and step by step: the equations with the sampled region instead of the mean."""
    decoder, features = make(config)
    packed = pack_captions(CAPTIONS)
    sampled: list[torch.Tensor] = []

    def remember(weights: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        sampled.append(sample_locations(weights, numbers))
        return sampled[-1]

    monkeypatch.setattr(hard_attention, "sample_locations", remember)
    answer = decoder(features, packed)
    locations = rows_of(packed, torch.cat(sampled))
    log_probs, attention = rows_of(packed, answer.sampled_attention.log_probs), rows_of(packed, answer.attention)
    assert len(set(torch.cat(sampled).tolist())) > 1
    for (image, slot), logits in rows_of(packed, answer.logits).items():
        words, chosen = [1, *CAPTIONS[image][slot]], locations[image, slot].tolist()
        expected, weights = attention_logits(decoder, config, features.grid[image].numpy(), words, chosen)
        np.testing.assert_allclose(logits, expected, atol=1e-10)
        np.testing.assert_allclose(attention[image, slot], weights, atol=1e-10)
        expected_log_probs = [np.log(alpha[i]) for alpha, i in zip(weights, chosen, strict=True)]
        np.testing.assert_allclose(log_probs[image, slot], expected_log_probs, atol=1e-10)
        one = features.images(lambda tensor, image=image: tensor[image][None])
        state = decoder.init_state(one)
        for word, location, expected_logits in zip(words, chosen, logits, strict=True):
            step = decoder.step(torch.tensor([word]), state)
            assert step.attention.tolist() == [[float(location == other) for other in range(P)]]
            np.testing.assert_allclose(step.logits[0].detach().numpy(), expected_logits, atol=1e-10)
            state = step.state


def test_the_entropy_is_that_of_the_attention() -> None:
    decoder, features = make(CONFIGS[0])
    answer = decoder(features, pack_captions(CAPTIONS))
    attention = answer.attention.detach().numpy()
    entropy = float(-(attention * np.log(attention)).sum())
    assert float(answer.losses["entropy"].total.detach()) == pytest.approx(-0.002 * entropy, abs=1e-9)


@pytest.mark.parametrize(("share", "sampled_share"), [(0.0, 1.0), (1.0, 0.0), (0.5, 0.5)])
def test_in_training_some_images_use_the_expected_context(share: float, sampled_share: float) -> None:
    config = AttentionConfig(**HARD, hard_expected_share=share)
    torch.manual_seed(0)
    decoder = build_decoder(config, V, D).train()
    grid = torch.randn(400, P, D)
    packed = pack_captions([[[4, 5], [6, 7]]] * 400)
    answer = decoder(ImageFeatures(grid.mean(1), grid), packed)
    was_sampled = torch.zeros(400).index_add(
        0, packed.images[packed.rows], (answer.sampled_attention.log_probs != 0).float()
    )
    assert set(was_sampled.tolist()) <= {0.0, 6.0}, "all captions of an image, or none"
    assert float((was_sampled > 0).float().mean()) == pytest.approx(sampled_share, abs=0.08)


@pytest.mark.parametrize("name", ["greedy", "sample", "beam"])
def test_samples_depend_only_on_image_and_seed(name: str) -> None:
    decoder, features = make(CONFIGS[0])
    features = ImageFeatures(features.vector, features.grid)

    def attended(which: list[int], seed: int) -> list[tuple[tuple[int, ...], list[int]]]:
        some = ImageFeatures(features.vector[which], features.grid[which])
        decode = DecodeConfig(name=name, max_length=12, min_length=12, seed=seed)
        found = search(decoder, some, decode, SPECIAL_TOKENS, image_ids=[f"photo {i}" for i in which])
        assert all(set(own[0].attention.flatten().tolist()) == {0.0, 1.0} for own in found)
        return [(own[0].tokens, own[0].attention.argmax(1).tolist()) for own in found]

    together = attended([0, 1, 2], 0)
    assert together == [attended([image], 0)[0] for image in range(3)] == attended([2, 1, 0], 0)[::-1]
    assert [locations for _, locations in together] != [locations for _, locations in attended([0, 1, 2], 1)]


def test_the_baseline_is_a_moving_average_of_the_cost() -> None:
    decoder, _ = make(CONFIGS[0])
    expected = float(np.log(V))
    assert float(decoder.hard.baseline) == pytest.approx(expected)
    for cost in (2.0, 1.0, 4.0):
        decoder.hard.update_baseline(cost)
        expected = 0.9 * expected + 0.1 * cost
        assert float(decoder.hard.baseline) == pytest.approx(expected)
    assert "hard.baseline" in decoder.state_dict()
