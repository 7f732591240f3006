#!/usr/bin/env bash
# onnxslim multiplies channels by what the model multiplies columns, rows or words by, where their numbers are equal.
#
# Packages: onnxslim 0.1.98, onnx 1.23.2, onnxruntime 1.32.0. Seen on 2026-11-29.
# Expected: a slimmed model computes what the model computed ("slim your onnx model, with less operators, but same accuracy",
#           its README). Guess written before the run (random graphs, before and after): equal, perhaps not where a Pad goes
#           into a pool.
# Seen:     a Conv and a Mul with a constant become one Conv whose weights of channel i are multiplied by value i. What is
#           looked at is that the constant has one value per channel, not which axis it lies on. Weights along the width or
#           the height of a map with as many columns or rows as channels, or along the words of a Conv1d with as many words as
#           channels, are taken for the channels': right shape, other values, no message. A constant along the batch loses
#           its axis: 4 results become 1. With one column more than channels all is right, so it shows at some sizes only.
#           onnxruntime's own fusion of the same two nodes is right. Only slim(…, model_check=True), which is not the
#           default, compares the results. Not known to the tracker on that date; wrong shapes of fused biases are:
#           https://github.com/inisis/OnnxSlim/issues/210
# Here:     captioner's exports are compared with torch as they are stored (benchmarks/onnx_parity.py), and onnxslim is not
#           used.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    onnxslim==0.1.98 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
seen=$("$folder/venv/bin/python" -W ignore - << 'PROGRAM'
import numpy
import onnx
import onnxruntime
import onnxslim
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info
from onnx.numpy_helper import from_array

random = numpy.random.default_rng(0)


def normal(*shape):
    return random.standard_normal(shape).astype("float32")


def run(model, x, level):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


for name, sizes, shape in [
    ("4 channels, along the channels", (4, 4), (4, 1, 1)),
    ("4 channels, along 4 columns", (4, 4), (4,)),
    ("4 channels, along 4 columns, 4 axes", (3, 4), (1, 1, 1, 4)),
    ("4 channels, along 4 rows", (4, 3), (4, 1)),
    ("4 channels, along 5 columns", (4, 5), (5,)),
    ("4 channels, along 4 words", (4,), (4,)),
    ("4 channels, along the batch", (4, 4), (4, 1, 1, 1)),
]:
    x = normal(1, 3, *sizes)
    nodes = [make_node("Conv", ["x", "w"], ["c"]), make_node("Mul", ["c", "m"], ["y"])]
    constants = {"w": normal(4, 3, *(1 for _ in sizes)), "m": numpy.arange(1, 1 + max(shape), dtype="float32").reshape(shape)}
    expected = numpy.einsum("oc,nc...->no...", constants["w"].reshape(4, 3), x) * constants["m"]
    inputs = [make_tensor_value_info("x", onnx.TensorProto.FLOAT, x.shape)]
    outputs = [make_tensor_value_info("y", onnx.TensorProto.FLOAT, expected.shape)]
    graph = make_graph(nodes, "graph", inputs, outputs, [from_array(value, key) for key, value in constants.items()])
    model = make_model(graph, opset_imports=[make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    slim = onnxslim.slim(model)
    results = []
    for one, level in ((model, "ORT_DISABLE_ALL"), (model, "ORT_ENABLE_ALL"), (slim, "ORT_DISABLE_ALL")):
        found = run(one, x, getattr(onnxruntime.GraphOptimizationLevel, level))
        equal = found.shape == expected.shape and numpy.allclose(found, expected, atol=1e-4)
        differs = "DIFFERENT" if found.shape == expected.shape else f"{expected.shape} -> {found.shape}"
        results.append("equal" if equal else differs)
    kinds = [node.op_type for node in slim.graph.node]
    print(f"{name}: onnxruntime {results[0]}, optimized {results[1]}, slim {results[2]}", kinds)
PROGRAM
)
expected="4 channels, along the channels: onnxruntime equal, optimized equal, slim equal ['Conv']
4 channels, along 4 columns: onnxruntime equal, optimized equal, slim DIFFERENT ['Conv']
4 channels, along 4 columns, 4 axes: onnxruntime equal, optimized equal, slim DIFFERENT ['Conv']
4 channels, along 4 rows: onnxruntime equal, optimized equal, slim DIFFERENT ['Conv']
4 channels, along 5 columns: onnxruntime equal, optimized equal, slim equal ['Conv', 'Mul']
4 channels, along 4 words: onnxruntime equal, optimized equal, slim DIFFERENT ['Conv']
4 channels, along the batch: onnxruntime equal, optimized equal, slim (4, 4, 4, 4) -> (1, 4, 4, 4) ['Conv']"
printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || { printf 'this differs from what was seen before:\n%s\n' "$expected"; exit 1; }
