"""Checks for every decoder, and the captions that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from captioner.nn.packing import PackedCaptions, pack_captions
from captioner.nn.types import ImageFeatures
from tests.nn.equations import finite_difference_gradient

V, D = 11, 6
CAPTIONS = [[[4, 5, 6], [7]], [[8, 9, 4, 5, 10]], [[6, 6], [5, 4, 4, 9], []]]


def rows_of(packed: PackedCaptions, values: torch.Tensor) -> dict[tuple[int, int], np.ndarray]:
    """(image, caption index) → (T, …)."""
    return {
        (int(packed.images[row]), int(packed.caption_indices[row])): values[packed.rows == row].detach().numpy()
        for row in range(len(packed.images))
    }


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
        assert parameter.grad is not None, name
        index = int(parameter.grad.abs().argmax())
        expected = finite_difference_gradient(loss, parameter, index)
        assert float(parameter.grad.view(-1)[index]) == pytest.approx(expected, abs=1e-7), name


def mean_cross_entropy(decoder: nn.Module, features: ImageFeatures) -> Callable[[], torch.Tensor]:
    """A function that computes the mean cross-entropy of the shared captions."""
    packed = pack_captions(CAPTIONS)
    return lambda: nn.functional.cross_entropy(decoder(features, packed).logits, packed.targets)
