"""Bits per token against the definition, token by token."""

from __future__ import annotations

import math

import pytest
import torch

from captioner.config import LanguageNetworkConfig
from captioner.nn.decoders.language_model import LanguageModel
from captioner.text.vocabulary import SPECIAL_TOKENS
from captioner.training.language_model import held_out_loss as language_evaluation
from captioner.training.language_model.held_out_loss import mean_bits, token_bits


@pytest.fixture
def model() -> LanguageModel:
    return LanguageModel(LanguageNetworkConfig(embedding_dim=4, hidden_dim=6, dropout=0.5, layers=2), 9).double()


def test_every_token_is_scored_once_given_all_before_it(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language_evaluation, "WINDOW", 4)
    tokens = torch.randint(9, (11,))
    bits = token_bits(model, tokens)
    assert bits.shape == (11,)
    model.eval()
    for i in range(11):  # all tokens before, from the zero state, for each token
        read = torch.tensor([[SPECIAL_TOKENS.start, *tokens[:i].tolist()]])
        logits, _ = model(read, model.initial(1))
        expected = -float(logits[0, -1].detach().log_softmax(0)[tokens[i]]) / math.log(2)
        assert abs(float(bits[i]) - expected) < 1e-12
    assert mean_bits(model, tokens) == pytest.approx(float(bits.mean()))


def test_windows_have_no_effect_and_the_mode_is_restored(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = torch.randint(9, (40,))
    whole = token_bits(model.train(), tokens)
    assert model.training
    monkeypatch.setattr(language_evaluation, "WINDOW", 7)
    assert torch.allclose(token_bits(model.eval(), tokens), whole, atol=1e-12)
    assert not model.training


def test_a_uniform_model_needs_log_v_bits(model: LanguageModel) -> None:
    torch.nn.init.zeros_(model.output.words.weight)
    assert mean_bits(model, torch.randint(9, (5,))) == pytest.approx(math.log2(9))
