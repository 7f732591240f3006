"""Checks for every decoder, and the captions that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
    """Along random directions over all parameters together, the derivative is that of finite differences.

    Every wrong component of the gradient shows in each direction, for two evaluations of the loss instead of two for
    every parameter. The message names the parameters whose own part is wrong.
    """
    loss().backward()
    parameters = {name: parameter for name, parameter in decoder.named_parameters() if parameter.numel()}
    for name, parameter in parameters.items():
        assert parameter.grad is not None, name
    for _ in range(3):
        directions = {name: torch.randn_like(parameter) for name, parameter in parameters.items()}
        if not _is_derivative_along(directions, parameters, loss):
            parts = {name: {name: direction} for name, direction in directions.items()}
            wrong = [name for name, part in parts.items() if not _is_derivative_along(part, parameters, loss)]
            pytest.fail(f"the gradient of {wrong} is not that of finite differences")


def _is_derivative_along(
    directions: Mapping[str, torch.Tensor], parameters: Mapping[str, nn.Parameter], loss: Callable[[], torch.Tensor]
) -> bool:
    """Is the gradient's product with the directions the slope of the loss along them, to 1e-7?"""
    step = 3e-7  # the error of rounding is 1e-9, and with thousands of parameters that of the third derivative too
    before = {name: parameters[name].detach().clone() for name in directions}
    losses = []
    with torch.no_grad():
        for sign in (1, -1):
            for name, direction in directions.items():
                parameters[name].copy_(before[name] + sign * step * direction)
            losses.append(float(loss()))
        for name in directions:
            parameters[name].copy_(before[name])
    own = sum(float((parameters[name].grad * direction).sum()) for name, direction in directions.items())  # type: ignore[operator]
    return own == pytest.approx((losses[0] - losses[1]) / (2 * step), rel=0, abs=1e-7)


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
