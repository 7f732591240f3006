"""How the weights of ONNX graphs are stored: in half precision, and in the checkpoint's own file where it has them.

A weight in float16 is followed by a Cast to float32, which onnxruntime does once, when it loads the graph; all sums are
in float32. For `float32`, only the weights whose values are exactly those of float16 are stored so: an export has
rounded most of them already, and half of its size is saved without a difference. For `float16`, all matrices are.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from captioner.checkpoint.onnx.graphs import import_onnx
from captioner.checkpoint.safetensors_file import SafetensorsFile

if TYPE_CHECKING:
    import onnx

_SMALLEST = 1024  # bytes; smaller tensors stay in the graph as they are


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
        if values.nbytes < _SMALLEST or not np.isfinite(half).all():
            continue
        if exactly and not np.array_equal(half.astype(np.float32), values):
            continue
        name = tensor.name
        tensor.CopyFrom(onnx.numpy_helper.from_array(half, f"{name}.half"))
        casts.append(onnx.helper.make_node("Cast", [f"{name}.half"], [name], f"{name}.cast", to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
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
