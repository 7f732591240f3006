"""Text is sampled from the model's own distribution, with temperature and truncation."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from captioner.config import LanguageNetworkConfig, SamplingConfig
from captioner.decode.text_sampling import sample_tokens, sampling_logits
from captioner.nn.decoders.language_model import LanguageModel
from captioner.text.vocabulary import SPECIAL_TOKENS

V = 10
PLAIN = SamplingConfig(length=40)


@pytest.fixture
def model() -> LanguageModel:
    model = LanguageModel(LanguageNetworkConfig(embedding_dim=6, hidden_dim=8), V)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.8)
    return model


def next_probabilities(model: LanguageModel, prompt: list[int], temperature: float) -> torch.Tensor:
    """p(first token | <START>, prompt) among the words, by its definition."""
    model.eval()
    hidden = model.initial(1)
    for token in (SPECIAL_TOKENS.start, *prompt):
        logits, hidden = model.step(torch.tensor([token]), hidden)
    words = (logits[0].detach() / temperature)[4:].double().exp()
    return torch.cat([torch.zeros(4), words / words.sum()])


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_the_first_token_follows_the_distribution(model: LanguageModel, temperature: float) -> None:
    """1,500 seeds: the largest difference from the expected fraction is within five standard deviations."""
    draws, prompt = 1500, [5, 7]
    expected = next_probabilities(model, prompt, temperature)
    counts = torch.zeros(V)
    for seed in range(draws):
        counts[sample_tokens(model, prompt, SamplingConfig(length=1, temperature=temperature, seed=seed))[0]] += 1
    spread = (expected * (1 - expected) / draws).sqrt()
    assert bool(((counts / draws - expected).abs() <= 5 * spread + 1e-9).all())


def test_each_token_is_read_before_the_next_is_sampled(model: LanguageModel) -> None:
    """With the text so far as the prompt, a nearly greedy model continues in the same way."""
    cold = replace(PLAIN, temperature=1e-3, length=12)
    said = sample_tokens(model, [4], cold)
    for i in range(12):
        assert sample_tokens(model, [4, *said[:i]], replace(cold, length=1)) == [said[i]]
        assert int(next_probabilities(model, [4, *said[:i]], 1.0).argmax()) == said[i]


def test_a_seed_fixes_the_text_and_nothing_else_moves(model: LanguageModel) -> None:
    torch.manual_seed(3)
    expected_next = torch.rand(3)
    torch.manual_seed(3)
    model.train()
    first = sample_tokens(model, [], PLAIN)
    assert torch.equal(torch.rand(3), expected_next), "torch's own random state is not used"
    assert model.training
    assert sample_tokens(model, [], PLAIN) == first
    assert sample_tokens(model, [], replace(PLAIN, seed=1)) != first
    assert len(first) == 40
    assert min(first) > SPECIAL_TOKENS.unknown


def test_top_k_and_top_p_keep_what_they_say() -> None:
    logits = torch.log(torch.tensor([[9.0, 9.0, 9.0, 9.0, 0.5, 0.3, 0.15, 0.05]]))

    def kept(**cut: float) -> list[int]:
        left = sampling_logits(logits.clone(), SamplingConfig(**cut))[0]
        return [word for word, logit in enumerate(left.tolist()) if logit > float("-inf")]

    assert kept() == [4, 5, 6, 7]
    assert kept(top_k=2) == [4, 5]
    assert kept(top_p=0.79) == [4, 5]
    assert kept(top_p=0.81) == [4, 5, 6]
    assert kept(top_k=1, top_p=0.9) == [4]
