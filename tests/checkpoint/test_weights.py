"""Weights in fewer bytes: rounding errors, tied weights, and files with other content."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from captioner.checkpoint.safetensors_file import SafetensorsFile
from captioner.checkpoint.weights import (
    compress_to,
    load_into,
    quantize_to_8_bits,
    read_weights,
    size_in_bytes,
    to_float16,
    unique_weights,
    write_weights,
)
from captioner.errors import CheckpointError


class Tied(nn.Module):
    """A matrix with two names, a bias, and an integer buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Embedding(5, 4)
        self.second = nn.Linear(4, 5)
        self.second.weight = self.first.weight
        self.register_buffer("count", torch.tensor(7))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(-30, 15))
def test_8_bits_change_a_weight_by_at_most_half_a_step(seed: int, exponent: int) -> None:
    matrix = torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(seed)) * 2.0**exponent
    matrix[1] = 0
    quotient, scale = quantize_to_8_bits(matrix)
    assert quotient.dtype == torch.int8
    rows = matrix.reshape(4, -1).numpy().astype(np.float64)
    half_a_step = np.abs(rows).max(1, keepdims=True) / 127 / 2
    back = (quotient.float() * scale).reshape(4, -1).numpy()
    assert (np.abs(back - rows) <= half_a_step * (1 + 1e-5)).all()


def test_float16_rounds_matrices_and_not_vectors(tmp_path: Path) -> None:
    weights = {"matrix": torch.randn(9, 8), "vector": torch.randn(9), "count": torch.tensor(3)}
    write_weights(to_float16(weights), tmp_path / "w.safetensors")
    back = read_weights(tmp_path / "w.safetensors")
    assert back["matrix"].dtype == torch.float32
    assert torch.equal(
        back["matrix"], torch.from_numpy(weights["matrix"].numpy().astype(np.float16).astype(np.float32))
    )
    assert torch.equal(back["vector"], weights["vector"])
    assert torch.equal(back["count"], weights["count"])


def test_the_largest_matrices_are_stored_in_8_bits_until_it_fits(tmp_path: Path) -> None:
    weights = {"small": torch.randn(4, 4), "large": torch.randn(40, 50), "middle": torch.randn(10, 10)}
    total = size_in_bytes(to_float16(weights))
    assert total == 2 * (16 + 2000 + 100)
    assert compress_to(weights, total)[1] == []
    packed, in_8_bits = compress_to(weights, total - 1)
    assert in_8_bits == ["large"]
    assert size_in_bytes(packed) == total - 2000 + 40 * 4
    assert compress_to(weights, total - 1900)[1] == ["large", "middle"]
    with pytest.raises(CheckpointError, match=r"take at least [\d,]+ bytes, and the limit leaves 100"):
        compress_to(weights, 100)
    write_weights(packed, tmp_path / "w.safetensors")
    back = read_weights(tmp_path / "w.safetensors")
    assert back.keys() == weights.keys()
    assert all(torch.allclose(back[name], weights[name], atol=0.02, rtol=1e-3) for name in weights)


def test_the_large_matrices_of_a_part_are_stored_in_8_bits_and_restored_alike_without_torch(tmp_path: Path) -> None:
    weights = {
        "decoder.matrix": torch.randn(70, 64),
        "decoder.pointwise": torch.randn(64, 64, 1, 1),
        "decoder.depthwise": torch.randn(200, 1, 5, 5),
        "decoder.small": torch.randn(63, 65),
        "decoder.bias": torch.randn(9000),
        "decoder.count": torch.ones(100, 100, dtype=torch.int64),
        "decoder_of_another": torch.randn(70, 64),
        "encoder.matrix": torch.randn(70, 64),
    }
    packed, in_8_bits = compress_to(weights, parts=["decoder"])
    assert in_8_bits == ["decoder.matrix", "decoder.pointwise"]
    for name in set(weights) - set(in_8_bits):
        assert torch.equal(packed[name], to_float16(weights)[name])
    path = tmp_path / "w.safetensors"
    write_weights(packed, path)
    back = read_weights(path)
    assert back.keys() == weights.keys()
    file = SafetensorsFile.read(path)
    for name in in_8_bits:
        restored = file.array(name).astype(np.float32) * file.array(f"{name}.scale")
        np.testing.assert_array_equal(back[name].numpy(), restored)
        rows = weights[name].reshape(len(restored), -1).numpy()
        steps = np.round(rows / (np.abs(rows).max(1, keepdims=True) / np.float32(127)))
        np.testing.assert_array_equal(file.array(name).reshape(steps.shape), steps)
    assert compress_to(weights, parts=["decoder", "encoder"])[1] == [*in_8_bits, "encoder.matrix"]
    assert compress_to(weights, size_in_bytes(packed) - 1, ["decoder"])[1] == [*in_8_bits, "decoder.depthwise"]
    with pytest.raises(CheckpointError, match="the limit leaves 100"):
        compress_to(weights, 100, ["decoder"])


@pytest.mark.parametrize("number", [1e6, float("nan"), float("inf")])
def test_values_that_float16_cannot_represent_are_errors(number: float) -> None:
    with pytest.raises(CheckpointError, match="matrix has values"):
        to_float16({"matrix": torch.full((2, 2), number)})


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_tied_weights_are_stored_once_and_stay_tied(tmp_path: Path, device: str) -> None:
    model = Tied()
    unique = unique_weights(model)
    assert set(unique) == {"first.weight", "second.bias", "count"}
    write_weights(unique, tmp_path / "w.safetensors")
    with torch.device(device):
        other = Tied()
    load_into(other, read_weights(tmp_path / "w.safetensors"))
    assert other.second.weight is other.first.weight
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in other.state_dict().items())
    assert all(parameter.requires_grad for parameter in other.parameters())


@pytest.mark.parametrize(
    "changed",
    [
        {"second.bias": torch.zeros(6)},
        {"second.bias": torch.zeros(5, dtype=torch.int64)},
        {"second.bias": torch.zeros(5, dtype=torch.int8)},
        {"another": torch.zeros(5)},
        {"first.weight": torch.zeros(5, 4, dtype=torch.int8), "first.weight.scale": torch.zeros(5, 1, 1)},
        {"first.weight": torch.zeros(5, 4, dtype=torch.int8), "first.weight.scale": torch.zeros(1, 4)},
        {"first.weight": torch.zeros((), dtype=torch.int8), "first.weight.scale": torch.zeros(())},
        {"first.weight.scale": torch.zeros(5, 1)},
    ],
)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_weights_that_do_not_fit_are_errors(tmp_path: Path, changed: dict[str, Tensor], device: str) -> None:
    save_file({**unique_weights(Tied()), **changed}, tmp_path / "w.safetensors")
    with torch.device(device):
        model = Tied()
    with pytest.raises(RuntimeError):
        load_into(model, read_weights(tmp_path / "w.safetensors"))
