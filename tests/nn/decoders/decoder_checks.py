"""Checks for every decoder, and the captions that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from captioner.config import DecodeConfig, ModelConfig
from captioner.decode import search
from captioner.nn.decoders.build_decoder import build_decoder
from captioner.nn.decoders.decoder import Decoder
from captioner.nn.packing import PackedCaptions, pack_captions
from captioner.nn.types import ImageFeatures, join_features, repeat_rows, select_rows
from captioner.text.vocabulary import SPECIAL_TOKENS
from tests.nn.equations import finite_difference_gradient

V, D, P = 11, 6, 4
CAPTIONS = [[[4, 5, 6], [7]], [[8, 9, 4, 5, 10]], [[6, 6], [5, 4, 4, 9], []]]


def rows_of(packed: PackedCaptions, values: torch.Tensor) -> dict[tuple[int, int], np.ndarray]:
    """(image, caption index) → (T, …)."""
    return {
        (int(packed.images[row]), int(packed.caption_indices[row])): values[packed.rows == row].detach().numpy()
        for row in range(len(packed.images))
    }


def check_that_forward_is_the_equations(
    decoder: Decoder[Any],
    features: ImageFeatures,
    equations: Callable[[Decoder[Any], np.ndarray, np.ndarray, list[int]], tuple[np.ndarray, np.ndarray]],
) -> None:
    """Teacher forcing gives the logits (T, V) and weights (T, P) of `equations(decoder, grid, vector, words)`."""
    packed = pack_captions(CAPTIONS)
    output = decoder(features, packed)
    attention = rows_of(packed, output.attention)
    assert features.grid is not None
    for (image, slot), logits in rows_of(packed, output.logits).items():
        grid, vector = features.grid[image].numpy(), features.vector[image].numpy()
        expected, weights = equations(decoder, grid, vector, [1, *CAPTIONS[image][slot]])
        np.testing.assert_allclose(logits, expected, atol=1e-10)
        np.testing.assert_allclose(attention[image, slot], weights, atol=1e-10)


def check_that_decoding_step_by_step_equals_teacher_forcing(decoder: nn.Module, features: ImageFeatures) -> None:
    """Calling `step` for each token gives the logits of teacher forcing."""
    packed = pack_captions(CAPTIONS)
    for (image, slot), logits in rows_of(packed, decoder(features, packed).logits).items():
        grid = None if features.grid is None else features.grid[image][None]
        state = decoder.init_state(ImageFeatures(features.vector[image][None], grid))
        for word, expected in zip([1, *CAPTIONS[image][slot]], logits, strict=True):
            step = decoder.step(torch.tensor([word]), state)
            np.testing.assert_allclose(step.logits[0].detach().numpy(), expected, atol=1e-10)
            state = step.state


def check_gradients(decoder: nn.Module, loss: Callable[[], torch.Tensor]) -> None:
    """Every parameter's largest partial derivative is that of finite differences."""
    loss().backward()
    for name, parameter in decoder.named_parameters():
        if not parameter.numel():
            continue
        assert parameter.grad is not None, name
        index = int(parameter.grad.abs().argmax())
        expected = finite_difference_gradient(loss, parameter, index)
        assert float(parameter.grad.view(-1)[index]) == pytest.approx(expected, abs=1e-7), name


def mean_cross_entropy(decoder: nn.Module, features: ImageFeatures) -> Callable[[], torch.Tensor]:
    """A function that computes the mean cross-entropy of the shared captions."""
    packed = pack_captions(CAPTIONS)
    return lambda: nn.functional.cross_entropy(decoder(features, packed).logits, packed.targets)


def make_attending(config: ModelConfig, vector_dim: int = D) -> tuple[Decoder[Any], ImageFeatures]:
    """A decoder in float64 without a parameter that is zero, and features of the shared captions' images."""
    torch.manual_seed(1)
    decoder = build_decoder(config, V, D).double().eval()
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    grid = torch.randn(len(CAPTIONS), P, D, dtype=torch.float64)
    vector = grid.mean(1) if vector_dim == D else torch.randn(len(CAPTIONS), vector_dim, dtype=torch.float64)
    return decoder, ImageFeatures(vector, grid)


def check_that_padding_changes_nothing(decoder: Decoder[Any]) -> None:
    """Images with 1, 4 and 6 regions give together what they give alone, whatever the padding's values are."""
    torch.manual_seed(2)
    grids = [torch.randn(1, count, D, dtype=torch.float64) for count in (1, 4, 6)]
    alone = [ImageFeatures(grid.mean(1), grid) for grid in grids]
    padded = join_features(alone)
    assert padded.grid is not None
    assert padded.mask is not None
    noise = 100 * torch.randn_like(padded.grid)
    padded = padded._replace(grid=torch.where(padded.mask.unsqueeze(2), padded.grid, noise))
    packed = pack_captions(CAPTIONS)
    output = decoder(padded, packed)
    together, weights = rows_of(packed, output.logits), rows_of(packed, output.attention)
    config = DecodeConfig(name="beam", max_length=6)
    captions = search(decoder, padded, config, SPECIAL_TOKENS)
    for image, features in enumerate(alone):
        packed = pack_captions([CAPTIONS[image]])
        expected = rows_of(packed, decoder(features, packed).logits)
        for (_, slot), logits in expected.items():
            np.testing.assert_allclose(together[image, slot], logits, atol=1e-10)
            assert not weights[image, slot][:, grids[image].shape[1] :].any()
        (found,) = search(decoder, features, config, SPECIAL_TOKENS)
        assert captions[image][0].tokens == found[0].tokens
        assert captions[image][0].log_prob == pytest.approx(found[0].log_prob, abs=1e-10)


def check_that_beams_of_an_image_share_its_features(decoder: Decoder[Any], features: ImageFeatures) -> None:
    """Two rows per image give, after two words and an exchange of rows, what each row gives alone."""
    words = torch.tensor([[4, 5], [6, 7], [8, 9], [4, 4], [5, 9], [7, 6]])
    state = decoder.step(words[:, 0], repeat_rows(decoder.init_state(features), 2)).state
    swapped = torch.tensor([1, 0, 3, 2, 5, 4])
    step = decoder.step(words[:, 1], select_rows(state, swapped))
    for row in range(6):
        image = features.images(lambda tensor, row=row: tensor[row // 2][None])  # type: ignore[misc]
        alone = decoder.step(words[swapped[row], :1], decoder.init_state(image)).state
        expected = decoder.step(words[row, 1:], alone)
        torch.testing.assert_close(step.logits[row], expected.logits[0], atol=1e-10, rtol=0)
        assert step.attention is not None
        assert expected.attention is not None
        torch.testing.assert_close(step.attention[row], expected.attention[0], atol=1e-10, rtol=0)
