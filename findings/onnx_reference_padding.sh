#!/usr/bin/env bash
# ONNX's own reference reads what pads a caption, and takes regions and softmax of older models by the newest rules.
#
# Packages: onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.6. Seen on 2026-11-30.
# Expected: onnx.reference.ReferenceEvaluator is "a pure python implementation of ONNX specifications" (its documentation, which adds
#           that "mismatches may remain"), so converters and runtimes are compared with it. The operators' text: sequence_lens
#           gives the "lengths of the sequences in a batch", so what is behind them changes nothing; RoiAlign 16:
#           output_half_pixel is "for a backward-compatible behavior", so 10 is that; Softmax 11 flattens all axes from "axis"
#           on. Guess written before the run of 403 operators and options (573 with their opsets): equal to onnxruntime,
#           perhaps not with lengths.
# Seen:     1. LSTM, GRU and RNN accept the input sequence_lens and do not look at it. A caption of 2 words in a batch of 6 has
#              as last state that of its padding; read backwards or in both directions, it begins with the padding, so each of
#              its words has another state. Alone, without padding, the reference itself gives the other result, the one
#              that onnxruntime gives in both cases. Behind the caption there are numbers in place of zeros.
#           2. RoiAlign of opset 10 to 15 (torchvision's roi_align by its default, aligned=False) shifts each region by half a
#              pixel, for the default of opset 16 is taken.
#           3. Softmax (and LogSoftmax, Hardmax, not run here) of opset 11 and 12 runs as that of 13.
#           Nothing is said, shapes are right, and full_check accepts the models. A right converter so looks wrong, and one
#           that also drops the lengths looks right. Not known to the tracker on that date; known and mended there are the
#           directions (https://github.com/onnx/onnx/pull/7935), and an open change mends BatchNormalization 9
#           (https://github.com/onnx/onnx/pull/8442).
# Here:     captioner compares its exports with torch, not with this reference. Who needs it compares each caption alone, and
#           converts older models to opset 16 or more (onnx.version_converter) first.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
seen=$("$folder/venv/bin/python" -W ignore - 2> "$folder/messages" << 'PROGRAM'
import numpy
import onnx
import onnxruntime
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info
from onnx.numpy_helper import from_array
from onnx.reference import ReferenceEvaluator

random = numpy.random.default_rng(0)


def numbers(*shape):
    return random.standard_normal(shape).astype("float32")


def made(node, x, shapes, weights, opset):
    outputs = [make_tensor_value_info(name, 1, shape) for name, shape in shapes.items()]
    constants = [from_array(value, name) for name, value in weights.items()]
    graph = make_graph([node], "graph", [make_tensor_value_info("x", 1, x.shape)], outputs, constants)
    model = make_model(graph, opset_imports=[make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def both(*arguments):
    """The results of onnxruntime and of the reference."""
    model, x = made(*arguments), arguments[1]
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x}), ReferenceEvaluator(model).run(None, {"x": x})


def recurrent(kind, gates, direction, x, lengths):
    directions, hidden = 1 + (direction == "bidirectional"), 3
    weights = {"w": (directions, gates * hidden, 4), "r": (directions, gates * hidden, hidden)}
    weights = {name: numpy.random.default_rng(1).standard_normal(shape).astype("float32") for name, shape in weights.items()}
    inputs = ["x", "w", "r"] + ([] if lengths is None else ["", "lengths"])
    weights |= {} if lengths is None else {"lengths": numpy.int32(lengths)}
    node = make_node(kind, inputs, ["states", "last"], hidden_size=hidden, direction=direction)
    shapes = {"states": (len(x), directions, x.shape[1], hidden), "last": (directions, x.shape[1], hidden)}
    return both(node, x, shapes, weights, 14)


captions = numbers(6, 2, 4)  # words, captions, size of the embeddings; the second caption has 2 words
for kind, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1)):
    for direction in ("forward", "reverse", "bidirectional"):
        alone = recurrent(kind, gates, direction, captions[:2, 1:], None)
        verdicts = []
        for right, (states, last) in zip(alone, recurrent(kind, gates, direction, captions, [6, 2])):
            checks = {"words": (states[:2, :, 1:], right[0]), "last": (last[:, 1:], right[1]),
                      "padding": (states[2:, :, 1:], numpy.zeros_like(states[2:, :, 1:]))}
            wrong = [name for name, pair in checks.items() if not numpy.allclose(*pair, atol=1e-5)]
            verdicts.append("right" if not wrong else "wrong: " + " ".join(wrong))
        print(f"{kind} {direction}: onnxruntime {verdicts[0]}, reference {verdicts[1]}")

image = numpy.tile(numpy.arange(8, dtype="float32"), (1, 1, 8, 1))  # each pixel is its column
weights = {"regions": numpy.float32([[2, 2, 6, 6]]), "of": numpy.int64([0])}
for opset, mode in ((10, {}), (16, {"coordinate_transformation_mode": "output_half_pixel"}), (16, {})):
    node = make_node("RoiAlign", ["x", "regions", "of"], ["y"], output_height=2, output_width=2, sampling_ratio=2, **mode)
    results = [value[0][0, 0, 0].tolist() for value in both(node, image, {"y": (1, 1, 2, 2)}, weights, opset)]
    print(f"RoiAlign {opset} {''.join(mode.values()) or 'default'}: onnxruntime {results[0]}, reference {results[1]}")

scores = numbers(2, 3, 4)
for opset in (11, 13):
    results = both(make_node("Softmax", ["x"], ["y"], axis=1), scores, {"y": scores.shape}, {}, opset)
    sums = [", ".join(f"{total:.2f}" for total in value[0].sum(1)[0]) for value in results]
    print(f"Softmax {opset} axis=1, sums along it: onnxruntime {sums[0]}; reference {sums[1]}")
PROGRAM
) || { cat "$folder/messages"; exit 1; }
expected="LSTM forward: onnxruntime right, reference wrong: last padding
LSTM reverse: onnxruntime right, reference wrong: words last padding
LSTM bidirectional: onnxruntime right, reference wrong: words last padding
GRU forward: onnxruntime right, reference wrong: last padding
GRU reverse: onnxruntime right, reference wrong: words last padding
GRU bidirectional: onnxruntime right, reference wrong: words last padding
RNN forward: onnxruntime right, reference wrong: last padding
RNN reverse: onnxruntime right, reference wrong: words last padding
RNN bidirectional: onnxruntime right, reference wrong: words last padding
RoiAlign 10 default: onnxruntime [3.0, 5.0], reference [2.5, 4.5]
RoiAlign 16 output_half_pixel: onnxruntime [3.0, 5.0], reference [3.0, 5.0]
RoiAlign 16 default: onnxruntime [2.5, 4.5], reference [2.5, 4.5]
Softmax 11 axis=1, sums along it: onnxruntime 0.42, 0.37, 0.10, 0.11; reference 1.00, 1.00, 1.00, 1.00
Softmax 13 axis=1, sums along it: onnxruntime 1.00, 1.00, 1.00, 1.00; reference 1.00, 1.00, 1.00, 1.00"
printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || { printf 'this differs from what was seen before:\n%s\n' "$expected"; exit 1; }
