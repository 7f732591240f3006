"""An encoder in 8 bits beside itself in float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from captioner.checkpoint.onnx.quantize import quantize_encoder
from captioner.config import TransformConfig
from captioner.data.images.decode import load_image
from captioner.data.images.pixels import image_to_array
from captioner.runtime.sessions import session_options

onnxruntime = pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")

SIZE, CHANNELS = 16, 8
TRANSFORM = TransformConfig(size=SIZE)


def encoder(activation: str) -> Any:
    """Two convolutions, with `activation` after each; the first returns values far beyond those that it lets through.

    As in MobileNet and EfficientNet-Lite, whose activation is ReLU6 ("Clip").
    """
    rng = np.random.default_rng(0)
    helper, array = onnx.helper, onnx.numpy_helper.from_array
    weights = {
        "first": rng.normal(0, 10, (CHANNELS, 3, 3, 3)),
        "first_bias": rng.normal(-200, 60, CHANNELS) if activation == "Relu" else rng.normal(3, 60, CHANNELS),
        "second": rng.normal(0, 0.2, (CHANNELS, CHANNELS, 3, 3)),
        "second_bias": rng.normal(0, 0.2, CHANNELS),
    }
    limits = {"low": np.float32(0), "high": np.float32(6)} if activation == "Clip" else {}
    nodes = [
        helper.make_node("Conv", ["images", "first", "first_bias"], ["wide"]),
        helper.make_node(activation, ["wide", *limits], ["narrow"]),
        helper.make_node("Conv", ["narrow", "second", "second_bias"], ["last"]),
        helper.make_node(activation, ["last", *limits], ["grid"]),
    ]
    graph = helper.make_graph(
        nodes,
        "encoder",
        [helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, ["N", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("grid", onnx.TensorProto.FLOAT, ["N", CHANNELS, SIZE - 4, SIZE - 4])],
        [array(np.asarray(value, np.float32), name) for name, value in (weights | limits).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def run(model: Any, images: np.ndarray) -> np.ndarray:
    """What the graph returns with the options of every session: without them, some processors overflow."""
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), session_options(threads=1), providers=["CPUExecutionProvider"]
    )
    found: np.ndarray = session.run(None, {"images": images})[0]
    return found


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Smooth images of every brightness."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(1)
    paths = [folder / f"{number:02}.png" for number in range(24)]
    for path in paths:
        pixels = rng.integers(0, 256, (4, 4, 3)).astype(np.uint8)
        Image.fromarray(pixels).resize((SIZE, SIZE), Image.Resampling.BICUBIC).save(path)
    return paths


@pytest.mark.parametrize("activation", ["Clip", "Relu"])
def test_8_bits_are_spent_on_what_the_activation_lets_through(activation: str, photos: list[Path]) -> None:
    """256 values from 0 to 6 have an error of 0.7 % of that range at most, whatever the convolution before returns."""
    model = encoder(activation)
    quantized = quantize_encoder(model, photos, TRANSFORM)
    images = np.stack([image_to_array(load_image(path, SIZE), TRANSFORM) for path in photos])
    expected, found = run(model, images), run(quantized, images)
    signal, noise = float((expected**2).mean()), float(((expected - found) ** 2).mean())
    assert 10 * np.log10(signal / noise) > 30, "decibels"
    alone = np.concatenate([run(quantized, images[[number]]) for number in range(len(images))])
    np.testing.assert_array_equal(alone, found)  # it does not depend on the others of its batch
    weights = {i.name: i.data_type for i in quantized.graph.initializer if i.name.startswith(("first_q", "second_q"))}
    assert weights == dict.fromkeys(["first_quantized", "second_quantized"], onnx.TensorProto.INT8)
