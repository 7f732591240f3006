"""The lecture's decoder against NumPy, in any layout, and step by step against teacher forcing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from captioner.config import CELLS, INJECTIONS, RecurrentConfig
from captioner.errors import ConfigError
from captioner.nn.decoders.build_decoder import build_decoder
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
from tests.nn.equations import recurrent_logits

CONFIGS = [
    RecurrentConfig(cell="rnn", embedding_dim=4, hidden_dim=5),
    RecurrentConfig(cell="lstm", embedding_dim=4, hidden_dim=5),
    RecurrentConfig(cell="gru", embedding_dim=4, hidden_dim=5, layers=3),
    RecurrentConfig(cell="lstm", embedding_dim=4, hidden_dim=5, layers=2, tie_embeddings=True),
    RecurrentConfig(cell="rnn", embedding_dim=5, hidden_dim=5, tie_embeddings=True),
    *(RecurrentConfig(cell="gru", embedding_dim=4, hidden_dim=5, injection=way) for way in INJECTIONS),
    *(RecurrentConfig(cell="lstm", embedding_dim=4, hidden_dim=5, layers=2, injection=way) for way in INJECTIONS),
    RecurrentConfig(cell="rnn", embedding_dim=4, hidden_dim=5, injection="merge", tie_embeddings=True),
    RecurrentConfig(cell="lstm", embedding_dim=4, hidden_dim=5, layers=2, image_layer=2),
    RecurrentConfig(cell="rnn_relu", embedding_dim=4, hidden_dim=5, layers=3, injection="first", image_layer=2),
    RecurrentConfig(cell="lstm", embedding_dim=4, hidden_dim=5, layers=3, residual=True),
    RecurrentConfig(cell="lstm", embedding_dim=4, hidden_dim=5, injection="pre", image_projection="affine"),
    RecurrentConfig(cell="lstm", embedding_dim=4, hidden_dim=5, injection="pre", image_projection="batch_norm"),
    RecurrentConfig(cell="gru", embedding_dim=4, hidden_dim=5, injection="par", image_projection="batch_norm"),
    *(RecurrentConfig(cell=cell, embedding_dim=4, hidden_dim=5, injection="init") for cell in CELLS),
]


def describe(config: RecurrentConfig) -> str:
    return f"{config.cell}-{config.layers}-{config.injection}-{config.image_projection}"


def make(config: RecurrentConfig) -> tuple[torch.nn.Module, ImageFeatures]:
    torch.manual_seed(1)
    decoder = build_decoder(config, V, D).double().eval()
    for parameter in decoder.parameters():  # no bias is zero, so that a missing one is noticed
        torch.nn.init.normal_(parameter, std=0.5)
    if config.image_projection == "batch_norm":
        torch.nn.init.normal_(decoder.image.batch_norm.running_mean)
        torch.nn.init.uniform_(decoder.image.batch_norm.running_var, 0.5, 2)
    return decoder, ImageFeatures(torch.randn(len(CAPTIONS), D, dtype=torch.float64))


@pytest.mark.parametrize("config", CONFIGS, ids=describe)
def test_forward_is_the_equation(config: RecurrentConfig) -> None:
    decoder, features = make(config)
    packed = pack_captions(CAPTIONS)
    for (image, slot), logits in rows_of(packed, decoder(features, packed).logits).items():
        words = [1, *CAPTIONS[image][slot]]
        expected = recurrent_logits(decoder, config, features.vector[image].numpy(), words)
        np.testing.assert_allclose(logits, expected, atol=1e-10)


@pytest.mark.parametrize("config", CONFIGS, ids=describe)
def test_decoding_step_by_step_equals_teacher_forcing(config: RecurrentConfig) -> None:
    check_that_decoding_step_by_step_equals_teacher_forcing(*make(config))


def test_beams_of_an_image_share_its_features() -> None:
    decoder, features = make(CONFIGS[3])
    state = repeat_rows(decoder.init_state(features), 2)
    words = torch.tensor([4, 5, 6, 7, 8, 9])
    step = decoder.step(words, state)
    for row in range(6):
        alone = decoder.step(words[row : row + 1], decoder.init_state(ImageFeatures(features.vector[row // 2][None])))
        torch.testing.assert_close(step.logits[row], alone.logits[0], atol=1e-12, rtol=0)
    swapped = select_rows(step.state, torch.tensor([1, 0, 3, 2, 5, 4]))
    torch.testing.assert_close(swapped.rows.hidden[0][0], step.state.rows.hidden[0][1])


@pytest.mark.parametrize("config", CONFIGS, ids=describe)
def test_gradients_are_those_of_finite_differences(config: RecurrentConfig) -> None:
    decoder, features = make(config)
    check_gradients(decoder, mean_cross_entropy(decoder, features))


def test_other_captions_in_the_batch_change_nothing() -> None:
    decoder, features = make(CONFIGS[2])
    together, alone = pack_captions(CAPTIONS), pack_captions(CAPTIONS[1:2])
    expected = decoder(ImageFeatures(features.vector[1:2]), alone).logits.detach().numpy()
    np.testing.assert_allclose(rows_of(together, decoder(features, together).logits)[(1, 0)], expected, atol=1e-12)


def test_image_enters_every_step() -> None:
    """A change of v after the first word changes the next logits."""
    decoder, features = make(CONFIGS[1])
    state = decoder.step(torch.tensor([1, 1, 1]), decoder.init_state(features)).state
    other = decoder.init_state(ImageFeatures(features.vector + 1))
    changed = decoder.step(torch.tensor([4, 4, 4]), replace(state, image=other.image)).logits
    assert not torch.allclose(changed, decoder.step(torch.tensor([4, 4, 4]), state).logits)


def test_first_enters_the_first_step_only() -> None:
    """After one word, two images differ only in their states; with equal states their logits are equal."""
    decoder, features = make(RecurrentConfig(cell="gru", embedding_dim=4, hidden_dim=5, injection="first"))
    state = decoder.step(torch.tensor([1, 1, 1]), decoder.init_state(features)).state
    assert not torch.allclose(state.rows.hidden[0][0], state.rows.hidden[0][1])
    same_hidden = tuple(tensor[:1].expand_as(tensor) for tensor in state.rows.hidden)
    same = replace(state, rows=state.rows._replace(hidden=same_hidden))
    logits = decoder.step(torch.tensor([4, 4, 4]), same).logits
    torch.testing.assert_close(logits[0], logits[1])


def test_merge_keeps_the_image_out_of_the_recurrence() -> None:
    decoder, features = make(RecurrentConfig(cell="gru", embedding_dim=4, hidden_dim=5, injection="merge"))
    step = decoder.step(torch.tensor([1, 1, 1]), decoder.init_state(features))
    assert torch.equal(step.state.rows.hidden[0][0], step.state.rows.hidden[0][1])
    assert not torch.allclose(step.logits[0], step.logits[1])


def test_batch_norm_uses_the_batch_while_training_and_running_means_for_one_image() -> None:
    config = RecurrentConfig(embedding_dim=4, hidden_dim=5, injection="pre", image_projection="batch_norm", dropout=0.0)
    decoder, features = make(config)
    image = decoder.image
    plain = features.vector @ image.weight.T
    decoder.train()
    expected = (plain - plain.mean(0)) / (plain.var(0, unbiased=False) + 1e-5).sqrt()
    expected = expected * image.batch_norm.weight + image.batch_norm.bias
    torch.testing.assert_close(image.project(features.vector), expected)
    alone = image.project(features.vector[:1])  # torch refuses to normalize a batch of one
    torch.testing.assert_close(alone, decoder.eval().image.project(features.vector)[:1])


@pytest.mark.parametrize("injection", ["init", "merge"])
def test_a_projection_without_effect_is_refused(injection: str) -> None:
    with pytest.raises(ConfigError, match=r"image_projection=affine needs model\.injection=pre, par or first"):
        RecurrentConfig(injection=injection, image_projection="affine")


def test_dropout_only_while_training() -> None:
    decoder, features = make(CONFIGS[1])
    packed = pack_captions(CAPTIONS)
    assert torch.equal(decoder(features, packed).logits, decoder(features, packed).logits)
    decoder.train()
    assert not torch.equal(decoder(features, packed).logits, decoder(features, packed).logits)
