"""Contrastive search against its definition, one image and one candidate at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from captioner.config import DECODERS, DecodeConfig
from captioner.decode import search
from captioner.decode.contrastive import contrastive
from captioner.errors import ConfigError
from captioner.nn.decoders.build_decoder import build_decoder
from captioner.nn.decoders.decoder import Decoder
from captioner.nn.ensemble import EnsembleDecoder, Member
from captioner.nn.layers.output import WordOutput
from captioner.nn.types import DecoderState, DecoderStep
from captioner.text.vocabulary import SPECIAL_TOKENS
from tests.decode.decoders import END, TinyDecoder, assert_same, make_features, one_image


class ReadingDecoder(Decoder[Any]):
    """h' = tanh(A h + E[word] + image); the output layer reads h', which is also the state, so a test can see it."""

    def __init__(self, words: int, seed: int = 0, dim: int = 5) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.embedding = nn.Embedding(4 + words, dim)
        self.recurrent = nn.Linear(dim, dim)
        self.output = WordOutput(dim, self.embedding, 0.0, tied=False)
        self.double()
        for weights in self.parameters():
            nn.init.normal_(weights)

    def init_state(self, features: Any) -> DecoderState[Any, Any]:
        return DecoderState((), (torch.tanh(features.vector),))

    def step(self, tokens: Tensor, state: DecoderState[Any, Any]) -> DecoderStep:
        hidden = torch.tanh(self.recurrent(state.rows[0]) + self.embedding(tokens))
        return DecoderStep(self.output(hidden), DecoderState((), (hidden,)))


def read(decoder: Decoder[Any], features: Any, words: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """After reading <START> and the words: the probabilities of the next token, and what the output layer read."""
    state = decoder.init_state(features)
    with torch.no_grad():
        for token in (SPECIAL_TOKENS.start, *words):
            logits, state, _ = decoder.step(torch.tensor([token]), state)
    return logits[0].softmax(0).numpy(), state.rows[0][0].numpy()


def by_definition(
    decoder: Decoder[Any], features: Any, config: DecodeConfig, size: int
) -> tuple[tuple[int, ...], bool]:
    words: tuple[int, ...] = ()
    while True:
        p, _ = read(decoder, features, words)
        before = [read(decoder, features, words[: i + 1])[1] for i in range(len(words))]
        allowed = [END] * (len(words) >= config.min_length) + list(range(4, size))
        scale = [config.repetition_penalty if token in words else 1.0 for token in range(size)]
        p = p ** np.array(scale)
        best, most = 0, -np.inf
        for token in sorted(allowed, key=lambda token: -p[token])[: config.candidates]:
            h = read(decoder, features, (*words, token))[1]
            likeness = max((h @ x / np.linalg.norm(h) / np.linalg.norm(x) for x in before), default=0.0)
            value = (1 - config.degeneration_penalty) * p[token] - config.degeneration_penalty * likeness
            if value > most:
                best, most = token, value
        if best == END or len(words) == config.max_length:
            return words, best == END
        words = (*words, best)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"candidates": 2},
        {"degeneration_penalty": 0.1, "min_length": 2},
        {"repetition_penalty": 2.0, "candidates": 99},
    ],
    ids=str,
)
def test_it_is_its_definition_in_a_batch(settings: dict[str, float], seed: int) -> None:
    decoder, features = ReadingDecoder(6, seed), make_features(6, seed)
    config = DecodeConfig(**{"name": "contrastive", "max_length": 5, **settings})  # type: ignore[arg-type]
    found = contrastive(decoder.eval(), features, config, SPECIAL_TOKENS)
    for image, one in enumerate(found):
        assert (one.tokens, one.finished) == by_definition(decoder, one_image(features, image), config, 10)
        log_prob = sum(
            np.log(read(decoder, one_image(features, image), one.tokens[:i])[0][token])
            for i, token in enumerate((*one.tokens, END) if one.finished else one.tokens)
        )
        assert one.log_prob == pytest.approx(log_prob, abs=1e-9)


@pytest.mark.parametrize("settings", [{"candidates": 1}, {"degeneration_penalty": 0.0}], ids=str)
@pytest.mark.parametrize("model", DECODERS)
def test_without_a_choice_or_a_penalty_it_is_greedy_search(model: str, settings: dict[str, Any]) -> None:
    built = build_decoder(DECODERS[model](name=model, embedding_dim=8, hidden_dim=8), 12, 5)
    decoder, features = built.double().eval(), make_features(4)
    expected = search(decoder, features, DecodeConfig(name="greedy", max_length=6), SPECIAL_TOKENS)
    config = DecodeConfig(name="contrastive", max_length=6, **settings)
    for found, greedy in zip(search(decoder, features, config, SPECIAL_TOKENS), expected, strict=True):
        assert_same(found[0], greedy[0])


def test_an_ensemble_compares_the_vectors_of_all_members() -> None:
    decoder, features = ReadingDecoder(6), make_features(4)
    config = DecodeConfig(name="contrastive", max_length=5)
    twice = EnsembleDecoder([Member(decoder), Member(decoder)], "probabilities").eval()
    for found, expected in zip(
        contrastive(twice, features, config, SPECIAL_TOKENS),
        contrastive(decoder.eval(), features, config, SPECIAL_TOKENS),
        strict=True,
    ):
        assert_same(found, expected)


def test_a_decoder_without_the_output_layer_is_an_error_that_says_so() -> None:
    with pytest.raises(ConfigError, match="contrastive compares the vectors"):
        search(TinyDecoder(5), make_features(1), DecodeConfig(name="contrastive"), SPECIAL_TOKENS)
