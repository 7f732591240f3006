"""Weights in half precision, and references into a checkpoint's own file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from captioner.checkpoint.onnx.stored_weights import refer_to_checkpoint, store_in_8_bits, store_in_half

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def product_graph(weights: np.ndarray) -> Any:
    """x (N, 32) → x · weights."""
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"])
    ends = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", weights.shape[axis]])
        for axis, name in enumerate("xy")
    ]
    tensors = [onnx.numpy_helper.from_array(weights, "w")]
    graph = onnx.helper.make_graph([node], "g", ends[:1], ends[1:], tensors)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)


def run(model: Any, x: np.ndarray) -> np.ndarray:
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    result: np.ndarray = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
    return result


def test_exact_half_precision_changes_no_result_and_halves_the_size() -> None:
    generator = np.random.default_rng(0)
    weights = generator.standard_normal((32, 64)).astype(np.float16).astype(np.float32)
    x = generator.standard_normal((3, 32)).astype(np.float32)
    model = product_graph(weights)
    before, size = run(model, x), model.ByteSize()
    store_in_half(model, exactly=True)
    np.testing.assert_array_equal(run(model, x), before)
    assert model.ByteSize() < 0.6 * size


def test_weights_that_half_precision_would_change_stay_where_exactness_is_asked_for() -> None:
    weights = np.random.default_rng(0).standard_normal((32, 64)).astype(np.float32)
    model = product_graph(weights)
    store_in_half(model, exactly=True)
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(model.graph.initializer[0]), weights)
    store_in_half(model, exactly=False)
    stored = onnx.numpy_helper.to_array(model.graph.initializer[0])
    np.testing.assert_array_equal(stored, weights.astype(np.float16))


@pytest.mark.parametrize("exactly", [True, False])
def test_weights_in_8_bits_stay_in_8_bits_and_change_no_result(tmp_path: Path, exactly: bool) -> None:
    """Also where all others are rounded to half precision: not the scale of a row, which is float32."""
    generator = np.random.default_rng(0)
    integers = generator.integers(-127, 128, (32, 300)).astype(np.int8)
    scale = generator.uniform(1e-3, 1, (32, 1)).astype(np.float32)
    path = tmp_path / "model.safetensors"
    save_file({"w": integers, "w.scale": scale, "other": np.ones(3, np.float32)}, path)
    weights = integers.astype(np.float32) * scale
    x = generator.standard_normal((3, 32)).astype(np.float32)
    model = product_graph(weights)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((300, 5), np.float32), "unknown"))
    expected, size = run(model, x), model.ByteSize()
    store_in_8_bits(model, path)
    store_in_half(model, exactly=exactly)
    onnx.checker.check_model(model, full_check=True)
    np.testing.assert_array_equal(run(model, x), expected)
    assert model.ByteSize() < 0.5 * size
    assert refer_to_checkpoint(model, path) == integers.nbytes
    target = tmp_path / "graph.onnx"
    target.write_bytes(model.SerializeToString())
    np.testing.assert_array_equal(run(target, x), expected)


def test_a_weight_of_another_shape_is_left_as_it_is(tmp_path: Path) -> None:
    """A scale belongs to a row of the checkpoint's matrix, not of another with the same bytes."""
    integers = np.arange(-64, 64, dtype=np.int8).reshape(16, 8)
    scale = np.full((16, 1), 0.5, np.float32)
    save_file({"w": integers, "w.scale": scale}, tmp_path / "model.safetensors")
    weights = (integers.astype(np.float32) * scale).reshape(32, 4)
    model = product_graph(weights)
    before = model.SerializeToString(deterministic=True)
    store_in_8_bits(model, tmp_path / "model.safetensors")
    assert model.SerializeToString(deterministic=True) == before


def test_a_graph_that_refers_to_a_checkpoint_computes_the_same(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    weights = generator.standard_normal((32, 64)).astype(np.float32)
    x = generator.standard_normal((3, 32)).astype(np.float32)
    save_file({"a": np.ones(5, np.float32), "w": weights}, tmp_path / "model.safetensors")
    model = product_graph(weights)
    expected = run(model, x)
    assert refer_to_checkpoint(model, tmp_path / "model.safetensors") == weights.nbytes
    assert model.ByteSize() < 1000
    path = tmp_path / "graph.onnx"
    path.write_bytes(model.SerializeToString())
    np.testing.assert_array_equal(run(path, x), expected)
