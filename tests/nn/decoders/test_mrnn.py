"""m-RNN against its equations in NumPy; its recurrence reads only words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from captioner.config import MRNNConfig
from captioner.nn.decoders.build_decoder import build_decoder
from captioner.nn.decoders.mrnn import scaled_tanh
from captioner.nn.packing import pack_captions
from captioner.nn.types import ImageFeatures, repeat_rows, select_rows
from tests.nn.decoders.decoder_checks import (
    CAPTIONS,
    D,
    V,
    check_gradients,
    check_that_decoding_step_by_step_equals_teacher_forcing,
    mean_cross_entropy,
    rows_of,
)
from tests.nn.equations import lstm, parameters, word_logits

SMALL: dict[str, Any] = {"embedding_dim": 3, "hidden_dim": 4, "multimodal_dim": 5}
PAPER = MRNNConfig(**SMALL)
GATED = MRNNConfig(**SMALL, cell="lstm", tie_embeddings=True)
CONFIGS = [PAPER, GATED, MRNNConfig(**SMALL, cell="gru", layers=2, residual=True)]


def make(config: MRNNConfig) -> tuple[Any, ImageFeatures]:
    torch.manual_seed(1)
    decoder = build_decoder(config, V, D).double().eval()
    for parameter in decoder.parameters():  # no bias is zero, so that a missing one is noticed
        torch.nn.init.normal_(parameter, std=0.5)
    return decoder, ImageFeatures(torch.randn(len(CAPTIONS), D, dtype=torch.float64))


def equations(decoder: Any, config: MRNNConfig, v: np.ndarray, words: list[int]) -> np.ndarray:
    """Logits (T, V), eq. 2 to 4."""
    p = parameters(decoder)
    r = c = np.zeros(config.hidden_dim)
    rows = []
    for word in words:
        w = p["second_embedding.weight"] @ p["embedding.weight"][word] + p["second_embedding.bias"]
        if config.cell == "lstm":
            gates = p["stack.inputs.0.weight"] @ w + p["stack.inputs.0.bias"]
            r, c = lstm(gates, r, c, p["stack.cells.0.recurrent.weight"])
        else:
            r = np.maximum(p["stack.cells.0.recurrent.weight"] @ r + w, 0)
        m = p["word.weight"] @ w + p["recurrent.weight"] @ r + p["image.weight"] @ v + p["image.bias"]
        rows.append(word_logits(p, 1.7159 * np.tanh(2 / 3 * m)))
    return np.array(rows)


@pytest.mark.parametrize("config", [PAPER, GATED], ids=lambda c: c.cell)
def test_forward_is_the_equations(config: MRNNConfig) -> None:
    decoder, features = make(config)
    packed = pack_captions(CAPTIONS)
    for (image, slot), logits in rows_of(packed, decoder(features, packed).logits).items():
        expected = equations(decoder, config, features.vector[image].numpy(), [1, *CAPTIONS[image][slot]])
        np.testing.assert_allclose(logits, expected, atol=1e-10)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.cell)
def test_decoding_step_by_step_equals_teacher_forcing(config: MRNNConfig) -> None:
    check_that_decoding_step_by_step_equals_teacher_forcing(*make(config))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.cell)
def test_gradients_are_those_of_finite_differences(config: MRNNConfig) -> None:
    decoder, features = make(config)
    check_gradients(decoder, mean_cross_entropy(decoder, features))


def test_the_paper_s_recurrence_has_no_weight_on_words() -> None:
    names = [name for name, _ in make(PAPER)[0].named_parameters() if name.startswith("stack.")]
    assert names == ["stack.cells.0.recurrent.weight"]


def test_the_recurrence_does_not_see_the_image() -> None:
    decoder, features = make(PAPER)
    step = decoder.step(torch.tensor([1, 1, 1]), decoder.init_state(features))
    assert torch.equal(step.state.rows.hidden[0][0], step.state.rows.hidden[0][1])
    assert not torch.allclose(step.logits[0], step.logits[1])


def test_beams_of_an_image_share_its_features() -> None:
    decoder, features = make(GATED)
    words = torch.tensor([4, 5, 6, 7, 8, 9])
    step = decoder.step(words, repeat_rows(decoder.init_state(features), 2))
    for row in range(6):
        alone = decoder.step(words[row : row + 1], decoder.init_state(ImageFeatures(features.vector[row // 2][None])))
        torch.testing.assert_close(step.logits[row], alone.logits[0], atol=1e-12, rtol=0)
    swapped = select_rows(step.state, torch.tensor([1, 0, 3, 2, 5, 4]))
    torch.testing.assert_close(swapped.rows.hidden[0][0], step.state.rows.hidden[0][1])


def test_scaled_tanh_is_one_at_one() -> None:
    found = scaled_tanh(torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64))
    torch.testing.assert_close(found, torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64), atol=1e-4, rtol=0)
