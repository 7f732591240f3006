"""How the weights of ONNX graphs are stored: in fewer bytes, and in the checkpoint's own file where it has them.

A weight that the checkpoint has in 8 bits is stored as there, integers and a scale per row; a Cast and a Mul restore
the float32 values that torch restores, bit by bit. They are no DequantizeLinear, which onnxruntime may fuse with the
operator after it into another sum.

A weight in float16 is followed by a Cast to float32, which onnxruntime does once, when it loads the graph; all sums are
in float32. For `float32`, only the weights whose values are exactly those of float16 are stored so: an export has
rounded most of them already, and half of its size is saved without a difference. For `float16`, all matrices are.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from captioner.checkpoint.onnx.graphs import import_onnx
from captioner.checkpoint.safetensors_file import SafetensorsFile
from captioner.checkpoint.weights import read_8_bits, restore_from_8_bits

if TYPE_CHECKING:
    import onnx

_SMALLEST = 1024  # bytes; smaller tensors stay in the graph as they are
_ROW_SCALE = ".row_scale"


def store_in_8_bits(model: onnx.ModelProto, weights: Path) -> None:
    """Store the float32 tensors of `model` that `weights`, a checkpoint's file, has in 8 bits as they are there."""
    onnx = import_onnx()
    places = {restore_from_8_bits(*pair).numpy().tobytes(): pair for pair in read_8_bits(weights).values()}
    nodes, scales = [], []
    for tensor in model.graph.initializer:
        pair = places.get(onnx.numpy_helper.to_array(tensor).tobytes())
        if pair is None or tuple(tensor.dims) != tuple(pair[0].shape):
            continue
        name = tensor.name
        integers, scale = f"{name}.integers", f"{name}{_ROW_SCALE}"
        tensor.CopyFrom(onnx.numpy_helper.from_array(pair[0].numpy(), integers))
        scales.append(onnx.numpy_helper.from_array(pair[1].float().numpy(), scale))
        float_type = onnx.TensorProto.FLOAT
        nodes.append(onnx.helper.make_node("Cast", [integers], [f"{integers}.cast"], f"{name}.cast", to=float_type))
        nodes.append(onnx.helper.make_node("Mul", [f"{integers}.cast", scale], [name], f"{name}.mul"))
    model.graph.initializer.extend(scales)
    _put_first(model, nodes)


def store_in_half(model: onnx.ModelProto, *, exactly: bool) -> None:
    """Store the float32 matrices of `model` in float16, in place. exactly: only those that this does not change."""
    onnx = import_onnx()
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or len(tensor.dims) < 2:
            continue
        values = onnx.numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if values.nbytes < _SMALLEST or not np.isfinite(half).all() or tensor.name.endswith(_ROW_SCALE):
            continue
        if exactly and not np.array_equal(half.astype(np.float32), values):
            continue
        name = tensor.name
        tensor.CopyFrom(onnx.numpy_helper.from_array(half, f"{name}.half"))
        casts.append(onnx.helper.make_node("Cast", [f"{name}.half"], [name], f"{name}.cast", to=onnx.TensorProto.FLOAT))
    _put_first(model, casts)


def _put_first(model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto]) -> None:
    """Put nodes that restore weights before the others, which read them."""
    others = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *others])
    del model.graph.value_info[:]  # of intermediate values; it is not needed, and would list the old types


def refer_to_checkpoint(model: onnx.ModelProto, weights: Path) -> int:
    """Replace tensors that `weights`, a safetensors file, has bit by bit by references into it, in place.

    The file must lie beside the graph's file. Returns the number of bytes that are saved.
    """
    onnx = import_onnx()
    file = SafetensorsFile.read(weights)
    places = {file.content[entry.start : entry.end]: entry for entry in file.tensors.values()}
    saved = 0
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        entry = places.get(values.tobytes())
        if entry is None or values.nbytes < _SMALLEST:
            continue
        saved += values.nbytes
        for field in ("raw_data", "float_data", "int32_data"):
            tensor.ClearField(field)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", weights.name), ("offset", entry.start), ("length", entry.end - entry.start)):
            tensor.external_data.add(key=key, value=str(value))
    return saved
