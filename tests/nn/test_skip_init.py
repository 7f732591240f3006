"""A model on the meta device is the same without the time to initialize what has no values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from captioner.config import DECODERS
from captioner.nn.decoders.build_decoder import build_decoder
from captioner.nn.encoders.build_encoder import build_encoder
from captioner.nn.skip_init import SkipInit
from tests.tiny import ENCODER, encoder_of


def described(module: nn.Module) -> list[tuple[str, Any]]:
    tensors = [*module.named_parameters(), *module.named_buffers()]
    return [(name, (type(one), one.shape, one.dtype, one.device, one.requires_grad)) for name, one in tensors]


BUILD: dict[str, Callable[[], nn.Module]] = {
    "squeezenet1_1": lambda: build_encoder(ENCODER),
    "efficientnet_lite0": lambda: build_encoder(encoder_of("semantic_attention"), load_weights=False),
    **{name: lambda name=name: build_decoder(DECODERS[name](name=name), 20, 512) for name in DECODERS},  # type: ignore[misc]
}


@pytest.mark.parametrize("name", BUILD)
def test_the_same_tensors_without_values(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.device("meta"):
        expected = described(BUILD[name]())
        with SkipInit():
            assert described(BUILD[name]()) == expected
    assert expected


def test_tensors_with_values_are_initialized() -> None:
    plain = nn.Linear(3, 4)
    torch.manual_seed(0)
    with SkipInit():
        skipped = nn.Linear(3, 4)
        nn.init.constant_(plain.weight, 2.0)
    torch.manual_seed(0)
    torch.testing.assert_close(skipped.weight, nn.Linear(3, 4).weight, rtol=0, atol=0)
    assert plain.weight.eq(2).all()


def test_no_values_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn(tensor: Tensor, *arguments: Any, **named: Any) -> Tensor:
        raise AssertionError("a tensor without values was initialized")

    with torch.device("meta"):
        layer = nn.Linear(3, 4)
        monkeypatch.setattr(torch.Tensor, "uniform_", drawn)
        with SkipInit():
            nn.init.kaiming_uniform_(layer.weight)
