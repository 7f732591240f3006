#!/usr/bin/env bash
# OpenCV 5 gives a GRU's last state for the states of all words, unless the output that nobody uses has a name.
#
# Packages: opencv-python-headless 5.0.0.93, onnx 1.23.2, onnxruntime 1.32.0. Seen on 2026-11-29.
# Expected: cv2.dnn runs a valid ONNX model as the operators are defined (https://onnx.ai/onnx/operators), or refuses it. A
#           GRU's first output is the states of all steps, its second the last state; outputs may be left out. Guess written
#           before the run: equal to onnxruntime for every operator it takes, but for pools with ceil_mode and resizing.
# Seen:     1. A GRU whose second output is left out gives the last state in place of the first output. Below, a GRU reads a
#              caption of 4 words, and attention averages its states: the average is that of one word, a vector of the right
#              size and wrong values. With a name for the second output, which nothing reads, the result is right; onnxscript's
#              optimizer, which torch's export runs, removes such names. LSTM is right in both ways.
#           2. auto_pad SAME_LOWER of Conv and pools pads as SAME_UPPER does: the image is shifted by a pixel.
#           All three engines do it, and nothing is said. onnx's own reference evaluator agrees with onnxruntime. 4.14.0
#           refuses this GRU with an error. Not known to the tracker on that date; the pull request that brought the GRU to the
#           new engine is https://github.com/opencv/opencv/pull/28261.
# Here:     captioner runs its ONNX files with onnxruntime, and tests hold them equal to torch.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    opencv-python-headless==5.0.0.93 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
seen=$(OPENCV_LOG_LEVEL=SILENT "$folder/venv/bin/python" -W ignore - << 'PROGRAM'
import cv2
import numpy
import onnx
import onnxruntime
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info
from onnx.numpy_helper import from_array
from onnx.reference import ReferenceEvaluator

random = numpy.random.default_rng(0)


def normal(*shape):
    return random.standard_normal(shape).astype("float32")


def text(values):
    shape = "x".join(map(str, values.shape))
    return f"{shape} {values.ravel().round(2)}" if values.size < 8 else shape


def show(name, x, nodes, **constants):
    """OpenCV beside onnxruntime and onnx's evaluator."""
    inputs = [make_tensor_value_info("x", onnx.TensorProto.FLOAT, x.shape)]
    outputs = [make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)]
    graph = make_graph(nodes, "graph", inputs, outputs, [from_array(value, key) for key, value in constants.items()])
    model = onnx.shape_inference.infer_shapes(make_model(graph, opset_imports=[make_opsetid("", 17)], ir_version=8))
    onnx.checker.check_model(model, full_check=True)
    content = model.SerializeToString()
    (expected,) = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, {"x": x})
    (reference,) = ReferenceEvaluator(model).run(None, {"x": x})
    results = {text(expected) if numpy.allclose(reference, expected, atol=1e-5) else "onnx differs"}
    for engine in ("ENGINE_CLASSIC", "ENGINE_NEW", "ENGINE_AUTO"):
        net = cv2.dnn.readNetFromONNX(numpy.frombuffer(content, "uint8"), engine=getattr(cv2.dnn, engine))
        net.setInput(x)
        found = net.forward("y")
        equal = expected.shape == found.shape and numpy.allclose(expected, found, atol=1e-4)
        results.add("equal" if equal else f"OpenCV {text(found)}")
    print(f"{name}:", *sorted(results))


caption = normal(4, 1, 6)
for kind, gates in (("GRU", 3), ("LSTM", 4)):
    weights = {"w": normal(1, gates * 3, 6), "r": normal(1, gates * 3, 3), "b": normal(1, gates * 6)}
    for outputs in (["states"], ["states", "unused"]):
        recurrent = make_node(kind, ["x", "w", "r", "b"], outputs, hidden_size=3)
        flat = make_node("Reshape", ["states", "shape"], ["words"])
        sizes = {"shape": numpy.array([-1, 3])}
        name = f"{kind} with {len(outputs)} outputs,"
        show(f"{name} states", caption, [recurrent, flat, make_node("Identity", ["words"], ["y"])], **weights, **sizes)
        attention = [
            make_node("MatMul", ["words", "query"], ["scores"]),
            make_node("Softmax", ["scores"], ["weights"], axis=0),
            make_node("Mul", ["words", "weights"], ["weighted"]),
            make_node("ReduceSum", ["weighted", "first"], ["y"], keepdims=0),
        ]
        rest = {"query": numpy.ones((3, 1), "float32"), "first": numpy.array([0])}
        show(f"{name} attention", caption, [recurrent, flat, *attention], **weights, **sizes, **rest)
row = numpy.array([[[[10, 20, 30, 40]]]], "float32")
for pad in ("SAME_UPPER", "SAME_LOWER"):
    show(f"MaxPool {pad}", row, [make_node("MaxPool", ["x"], ["y"], kernel_shape=[1, 2], auto_pad=pad)])
    show(f"Conv {pad}", row, [make_node("Conv", ["x", "w"], ["y"], auto_pad=pad)], w=numpy.array([[[[1, 2]]]], "float32"))
PROGRAM
)
expected="GRU with 1 outputs, states: 4x3 OpenCV 1x3 [-0.74 -0.25  0.34]
GRU with 1 outputs, attention: 3 [0.55 0.74 0.39] OpenCV 3 [-0.74 -0.25  0.34]
GRU with 2 outputs, states: 4x3 equal
GRU with 2 outputs, attention: 3 [0.55 0.74 0.39] equal
LSTM with 1 outputs, states: 4x3 equal
LSTM with 1 outputs, attention: 3 [ 0.05 -0.37  0.03] equal
LSTM with 2 outputs, states: 4x3 equal
LSTM with 2 outputs, attention: 3 [ 0.05 -0.37  0.03] equal
MaxPool SAME_UPPER: 1x1x1x4 [20. 30. 40. 40.] equal
Conv SAME_UPPER: 1x1x1x4 [ 50.  80. 110.  40.] equal
MaxPool SAME_LOWER: 1x1x1x4 [10. 20. 30. 40.] OpenCV 1x1x1x4 [20. 30. 40. 40.]
Conv SAME_LOWER: 1x1x1x4 [ 20.  50.  80. 110.] OpenCV 1x1x1x4 [ 50.  80. 110.  40.]"
printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || { printf 'this differs from what was seen before:\n%s\n' "$expected"; exit 1; }
