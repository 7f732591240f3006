"""Weights in half precision, and references into a checkpoint's own file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from captioner.checkpoint.onnx.stored_weights import refer_to_checkpoint, store_in_half

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
