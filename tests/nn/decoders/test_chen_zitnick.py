"""Chen & Zitnick's decoder against its equations in NumPy, and the separation of its two halves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from captioner.config import ChenZitnickConfig
from captioner.nn.decoders.build_decoder import build_decoder
from captioner.nn.packing import pack_captions
from captioner.nn.types import ImageFeatures, repeat_rows, select_rows
from tests.nn.decoders.decoder_checks import (
    CAPTIONS,
    D,
    V,
    check_gradients,
    check_that_decoding_step_by_step_equals_teacher_forcing,
    rows_of,
)
from tests.nn.equations import parameters, word_logits

SMALL: dict[str, Any] = {"embedding_dim": 4, "hidden_dim": 5, "visual_dim": 3}
PAPER = ChenZitnickConfig(**SMALL, reconstruction=0.7)
CONFIGS = [
    PAPER,
    ChenZitnickConfig(**SMALL, cell="lstm", layers=2, tie_embeddings=True),
    ChenZitnickConfig(embedding_dim=3, hidden_dim=1, visual_dim=2, cell="gru"),
]


def make(config: ChenZitnickConfig) -> tuple[Any, ImageFeatures]:
    torch.manual_seed(1)
    decoder = build_decoder(config, V, D).double().eval()
    for parameter in decoder.parameters():  # no bias is zero, so that a missing one is noticed
        torch.nn.init.normal_(parameter, std=0.5)
    return decoder, ImageFeatures(torch.randn(len(CAPTIONS), D, dtype=torch.float64))


def equations(decoder: Any, v: np.ndarray, words: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Logits (T, V) and ṽ (T, D) of vanilla s and u, unit by unit of s: the first half sees v."""
    p = parameters(decoder)
    s, u = np.zeros(5), np.zeros(3)
    logits, guesses = [], []
    for word in words:
        x = p["embedding.weight"][word]
        before = p["stack.inputs.0.weight"] @ x + p["stack.inputs.0.bias"] + p["stack.cells.0.recurrent.weight"] @ s
        for unit in range(3):
            before[unit] += p["image.weight"][unit] @ v
        s = np.tanh(before)
        u = np.tanh(
            p["memory.inputs.0.weight"] @ x + p["memory.inputs.0.bias"] + p["memory.cells.0.recurrent.weight"] @ u
        )
        logits.append(word_logits(p, np.concatenate([s, u])))
        guesses.append(p["reconstruct.weight"] @ u + p["reconstruct.bias"])
    return np.array(logits), np.array(guesses)


def test_forward_is_the_equations() -> None:
    decoder, features = make(PAPER)
    packed = pack_captions(CAPTIONS)
    answer = decoder(features, packed)
    loss = 0.0
    for (image, slot), logits in rows_of(packed, answer.logits).items():
        v = features.vector[image].numpy()
        expected, guesses = equations(decoder, v, [1, *CAPTIONS[image][slot]])
        np.testing.assert_allclose(logits, expected, atol=1e-10)
        loss += sum(float(((guess - v) ** 2).sum() / (v**2).sum()) for guess in guesses)
    assert answer.losses["reconstruction"].total.item() == pytest.approx(0.7 * loss, rel=1e-12)


def test_reconstruction_reads_the_whole_caption() -> None:
    decoder, features = make(PAPER)
    packed = pack_captions(CAPTIONS)
    for row, vector in enumerate(decoder.reconstruct_features(packed).detach().numpy()):
        words = CAPTIONS[int(packed.images[row])][int(packed.caption_indices[row])]
        _, guesses = equations(decoder, features.vector[0].numpy(), [1, *words])
        np.testing.assert_allclose(vector, guesses[-1], atol=1e-10)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.cell)
def test_decoding_step_by_step_equals_teacher_forcing(config: ChenZitnickConfig) -> None:
    check_that_decoding_step_by_step_equals_teacher_forcing(*make(config))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.cell)
def test_gradients_are_those_of_finite_differences(config: ChenZitnickConfig) -> None:
    decoder, features = make(config)
    packed = pack_captions(CAPTIONS)

    def loss() -> torch.Tensor:
        answer = decoder(features, packed)
        return torch.nn.functional.cross_entropy(answer.logits, packed.targets) + answer.losses["reconstruction"].total

    check_gradients(decoder, loss)


def test_beams_of_an_image_share_its_features() -> None:
    decoder, features = make(CONFIGS[1])
    words = torch.tensor([4, 5, 6, 7, 8, 9])
    step = decoder.step(words, repeat_rows(decoder.init_state(features), 2))
    for row in range(6):
        alone = decoder.step(words[row : row + 1], decoder.init_state(ImageFeatures(features.vector[row // 2][None])))
        torch.testing.assert_close(step.logits[row], alone.logits[0], atol=1e-12, rtol=0)
    swapped = select_rows(step.state, torch.tensor([1, 0, 3, 2, 5, 4]))
    for before_swap, after_swap in zip(step.state.rows, swapped.rows, strict=True):
        for before, after in zip(before_swap, after_swap, strict=True):
            torch.testing.assert_close(after[0], before[1])


def test_the_memory_does_not_see_the_image() -> None:
    decoder, features = make(PAPER)
    packed = pack_captions(CAPTIONS)
    step = decoder.step(torch.tensor([1, 1, 1]), decoder.init_state(features))
    (language,), (memory,) = step.state.rows
    assert torch.equal(memory[0], memory[1])
    assert not torch.equal(language[0], language[1])
    assert torch.equal(language[0, 3:], language[1, 3:]), "half of the units are blind"
    decoder.reconstruct_features(packed).sum().backward()
    assert decoder.image.weight.grad is None


def test_the_reconstruction_loss_has_no_gradient_for_the_encoder() -> None:
    decoder, features = make(PAPER)
    vector = features.vector.requires_grad_()
    decoder(ImageFeatures(vector), pack_captions(CAPTIONS)).losses["reconstruction"].total.backward()
    assert vector.grad is None


def test_an_image_with_zero_features_has_a_finite_loss() -> None:
    decoder, features = make(PAPER)
    losses = decoder(ImageFeatures(torch.zeros_like(features.vector)), pack_captions(CAPTIONS)).losses
    assert torch.isfinite(losses["reconstruction"].total)
