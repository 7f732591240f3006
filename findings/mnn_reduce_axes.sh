#!/usr/bin/env bash
# MNN divides an embedding by the length of all embeddings of its batch, so a CLIP-Score depends on the images beside it.
#
# Packages: MNN 3.6.1, onnx 1.23.2, onnxruntime 1.32.0. Seen on 2026-11-30.
# Expected: a converted model computes what the ONNX model computes (https://onnx.ai/onnx/operators), or is refused. ReduceL2
#           reduces along "axes"; since opset 18 these are an input, not an attribute, and torch's export by its default
#           writes normalize(x, dim=-1) so, for the embeddings of images and captions in CLIP. Guess written before the
#           run of 261 modules that captioners use and of 449 operators: equal or refused.
# Seen:     1. The input "axes" of ReduceL2 (and of L1, SumSquare, LogSum and LogSumExp) is not read: everything is reduced,
#              the batch as well. An image alone is right, the shape is right for any number, and the cosines below depend
#              on the images that share the batch: the best image for the caption comes third of four. With opset 13, where
#              "axes" is an attribute, all is right, and so is the input of ReduceSum, Mean, Max, Min and Prod. logsumexp
#              gives one value for all words.
#           2. "activations" is not read: a plain RNN with ReLU (nn.RNN(nonlinearity="relu")) runs with tanh; and GRU and RNN
#              with the direction "reverse" run forwards, both as in tract (tract_past_words.sh).
#           3. scatter_add overwrites: ScatterElements runs without its reduction. So it did in TVM:
#              https://github.com/apache/tvm/issues/19435
#           The converter says "Converted Success!" each time. Others that differ, not run here, are Mod with fmod, Shrink of
#           negative values (softshrink), select_last_index, SAME_LOWER, and cubic resizing. Not known to MNN's tracker
#           on that date; of OpenVINO it is known that the attribute "axes" is not read:
#           https://github.com/openvinotoolkit/openvino/issues/38238
# Here:     captioner runs its ONNX files with onnxruntime, and tests hold them equal to torch. For MNN, export with opset 17.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check MNN==3.6.1 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cat > "$folder/program.py" << 'PROGRAM'
"""Writes its results to the file that is its argument, since MNN writes messages of its own to the output."""

import pathlib
import sys

import _tools  # what the command mnnconvert calls
import MNN.expr
import MNN.nn
import numpy
import onnx
import onnxruntime
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info
from onnx.numpy_helper import from_array

results = pathlib.Path(sys.argv[1]).open("w")
random = numpy.random.default_rng(0)


def numbers(*shape):
    return random.standard_normal(shape).astype(numpy.float32)


def digits(values):
    return [round(float(value), 2) for value in values.reshape(-1)]


def made(nodes, value, shape, weights, opset=18):
    first = [value.shape[0] if value.ndim == 3 else "batch", *value.shape[1:]]
    graph = make_graph(nodes, "graph", [make_tensor_value_info("x", 1, first)], [make_tensor_value_info("y", 1, shape)],
                       [from_array(numpy.asarray(weight), name) for name, weight in weights.items()])
    model = make_model(graph, opset_imports=[make_opsetid("", opset)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


def both(model, value):
    """The result by onnxruntime and by MNN."""
    onnx.save(model, "model.onnx")
    session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
    _tools.mnnconvert(["mnnconvert", "-f", "ONNX", "--modelFile", "model.onnx", "--MNNModel", "model.mnn"])
    module = MNN.nn.load_module_from_file("model.mnn", ["x"], ["y"])
    given = MNN.expr.const(numpy.ascontiguousarray(value), list(value.shape), MNN.expr.NCHW, MNN.expr.float)
    found = numpy.array(MNN.expr.convert(module.forward([given])[0], MNN.expr.NCHW).read())
    return session.run(None, {"x": value})[0], found


def normalize(opset):
    axes = {"axes": [-1]} if opset < 18 else {}
    nodes = [make_node("ReduceL2", ["x"] if axes else ["x", "axes"], ["length"], keepdims=1, **axes),
             make_node("Clip", ["length", "least"], ["clipped"]), make_node("Div", ["x", "clipped"], ["unit"]),
             make_node("MatMul", ["unit", "caption"], ["y"])]
    weights = {"axes": [-1], "least": numpy.float32(1e-12), "caption": numpy.float32([0.6, 0.8])}
    if axes:
        del weights["axes"]
    return lambda images: made(nodes, images, ["batch"], weights, opset)


images = numpy.float32([[3, 4], [8, 6], [4, 3], [0, 12]])
for opset in (13, 18):
    for batch in (1, 2, 4):
        right, found = both(normalize(opset)(images[:batch]), images[:batch])
        print(f"cosines, opset {opset}, batch {batch}: {digits(right)}, MNN {digits(found)}", file=results)

value = numpy.log(numpy.float32([[1, 2, 3], [2, 2, 4]]))
logsumexp = make_node("ReduceLogSumExp", ["x", "axes"], ["y"], keepdims=1)
right, found = both(made([logsumexp], value, ["batch", 1], {"axes": [-1]}), value)
print(f"exp of logsumexp: {digits(numpy.exp(right))}, MNN {digits(numpy.exp(found))}", file=results)


def recurrent(operator, gates, instead, **attributes):
    """Is MNN's result onnxruntime's, or that of the same operator with `instead`?"""
    value, weights = numbers(5, 1, 3), {"w": numbers(1, gates * 4, 3), "r": numbers(1, gates * 4, 4), "b": numbers(1, gates * 8)}

    def model(**attributes):
        node = make_node(operator, ["x", "w", "r", "b"], ["y"], hidden_size=4, **attributes)
        return made([node], value, [5, 1, 1, 4], weights)

    right, found = both(model(**attributes), value)
    other = both(model(**instead), value)[0]
    for name, expected in (("right", right), (f"as with {instead or 'defaults'}", other)):
        if found.size == expected.size and abs(found.reshape(-1) - expected.reshape(-1)).max() < 1e-3:
            return name
    return "something else"


gru = {"linear_before_reset": 1}  # as torch's GRU is
print("RNN:", recurrent("RNN", 1, {}), file=results)
print("RNN with ReLU:", recurrent("RNN", 1, {}, activations=["Relu"]), file=results)
print("RNN in reverse:", recurrent("RNN", 1, {}, direction="reverse"), file=results)
print("GRU:", recurrent("GRU", 3, {}, **gru), file=results)
print("GRU in reverse:", recurrent("GRU", 3, gru, direction="reverse", **gru), file=results)

value = numpy.float32([[0, 0, 0]])
add = make_node("ScatterElements", ["x", "i", "u"], ["y"], axis=1, reduction="add")
right, found = both(made([add], value, ["batch", 3], {"i": [[2, 0, 2, 2]], "u": numpy.float32([[1, 5, 10, 100]])}), value)
print(f"scatter_add: {right.tolist()}, MNN {found.tolist()}", file=results)
PROGRAM
cd "$folder"
"$folder/venv/bin/python" -W ignore program.py "$folder/results" > "$folder/messages" 2>&1 || { cat "$folder/messages"; exit 1; }
seen=$(cat "$folder/results")
expected="cosines, opset 13, batch 1: [1.0], MNN [1.0]
cosines, opset 13, batch 2: [1.0, 0.96], MNN [1.0, 0.96]
cosines, opset 13, batch 4: [1.0, 0.96, 0.96, 0.8], MNN [1.0, 0.96, 0.96, 0.8]
cosines, opset 18, batch 1: [1.0], MNN [1.0]
cosines, opset 18, batch 2: [1.0, 0.96], MNN [0.45, 0.86]
cosines, opset 18, batch 4: [1.0, 0.96, 0.96, 0.8], MNN [0.29, 0.56, 0.28, 0.56]
exp of logsumexp: [6.0, 8.0], MNN [14.0]
RNN: right
RNN with ReLU: as with defaults
RNN in reverse: as with defaults
GRU: right
GRU in reverse: as with {'linear_before_reset': 1}
scatter_add: [[5.0, 0.0, 111.0]], MNN [[5.0, 0.0, 100.0]]"
printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || { printf 'this differs from what was seen before:\n%s\n' "$expected"; exit 1; }
