"""The checks that decoders share can fail."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.nn.decoders.decoder_checks import check_gradients


@pytest.mark.parametrize("wrong", ["bias", "weight"])
def test_one_wrong_component_of_a_gradient_is_found_and_named(wrong: str) -> None:
    layer, inputs = nn.Linear(20, 30).double(), torch.randn(5, 20, dtype=torch.float64)
    check_gradients(layer, lambda: layer(inputs).tanh().square().mean())

    def add_a_little(gradient: torch.Tensor) -> torch.Tensor:
        changed = gradient.clone()
        changed.view(-1)[7] += 1e-5
        return changed

    layer.zero_grad()
    layer.get_parameter(wrong).register_hook(add_a_little)
    with pytest.raises(pytest.fail.Exception, match=rf"\['{wrong}'\]"):
        check_gradients(layer, lambda: layer(inputs).tanh().square().mean())
