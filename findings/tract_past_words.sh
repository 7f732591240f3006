#!/usr/bin/env bash
# tract lets each new word attend to the first word alone, and reads a caption forwards where the model reads it backwards.
#
# Packages: tract 0.23.9, openvino 2026.4.1, onnx 1.23.2, onnxruntime 1.32.0. Seen on 2026-11-29.
# Expected: a runtime computes what the operators are defined to (https://onnx.ai/onnx/operators), or refuses the model. Attention
#           with is_causal and a cache: "query i attends key j iff j <= i + past_sequence_length" (so the text since
#           https://github.com/onnx/onnx/pull/8068, and onnx's test with a cache). Guess written before the run: OpenVINO equal
#           where it takes an operator; tract drops the lengths of sequences.
# Seen:     tract refuses unequal lengths, as it should. But (1) its causal mask does not count the cache. A step of decoding, one
#           word and four cached ones, returns the value of the first word, whatever the query is. With a whole caption in one
#           call, as a test of an export would do, all is right, and so it is without is_causal. (2) GRU, LSTM and RNN with the
#           direction "reverse" run forwards; "bidirectional" is right, so the code that runs backwards is there. (3) "activations"
#           is not read: a plain RNN with ReLU, torch's nn.RNN(nonlinearity="relu"), runs with tanh. (4) The new
#           left_window_size of opset 25 is not read either, by tract and by OpenVINO: each word attends to all before it.
#           (OpenVINO mended another operator's in https://github.com/openvinotoolkit/openvino/pull/37207.)
#           Nothing is said in any case; "instead" below stands for these other results, value by value. onnxruntime is right.
#           Not known to tract's tracker on that date; tinygrad had the same as (1):
#           https://github.com/tinygrad/tinygrad/pull/15949.
# Here:     captioner runs its ONNX files with onnxruntime, and tests hold them equal to torch (captioner/checkpoint/onnx).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    tract==0.23.9 openvino==2026.4.1 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
seen=$("$folder/venv/bin/python" -W ignore - "$folder/model.onnx" 2> "$folder/messages" << 'PROGRAM'
import sys

import numpy
import onnx
import onnxruntime
import openvino
import tract
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info
from onnx.numpy_helper import from_array
from onnx.reference import ReferenceEvaluator

random = numpy.random.default_rng(0)


def numbers(*shape):
    return random.standard_normal(shape).astype(numpy.float32)


def by_onnxruntime(model, inputs):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(["y"], inputs)[0]


def by_openvino(model, inputs):
    read = openvino.Core().read_model(model.SerializeToString())
    return openvino.compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(inputs)["y"]


def by_tract(model, inputs):
    onnx.save(model, sys.argv[1])
    runnable = tract.onnx().load(sys.argv[1]).into_model().into_runnable()
    return runnable.run([inputs[each.name] for each in model.graph.input])[0].to_numpy()


def compared(name, operator, inputs, weights=(), instead=None, truth=None, opset=24, **attributes):
    """Prints which runtimes agree with ONNX's reference (or `truth`), and whether the others computed `instead`."""

    def model(**attributes):
        every = [*inputs, *weights] if weights else [*list(inputs)[:3], *([""] if len(inputs) > 3 else []), *list(inputs)[3:]]
        outputs = ["y", "past_key", "past_value"] if len(inputs) > 3 else ["y"]
        graph = make_graph([make_node(operator, every, outputs, **attributes)], name.replace(" ", "_"),
                           [make_tensor_value_info(key, 1, value.shape) for key, value in inputs.items()],
                           [make_tensor_value_info(key, 1, None) for key in outputs],
                           [from_array(value, key) for key, value in dict(weights).items()])
        return make_model(graph, opset_imports=[make_opsetid("", opset)], ir_version=13 if opset > 24 else 10)

    expected = ReferenceEvaluator(model(**attributes)).run(["y"], inputs)[0] if truth is None else truth
    other = instead and (instead(inputs) if callable(instead) else ReferenceEvaluator(model(**instead)).run(["y"], inputs)[0])
    results = []
    for run in (by_onnxruntime, by_openvino, by_tract):
        try:
            found = run(model(**attributes), inputs)
        except Exception as error:
            print(name, run.__name__, error, file=sys.stderr)
            results.append("refused")
            continue
        equal = numpy.allclose(found, expected, atol=1e-4)
        same = other is not None and numpy.allclose(found, other, atol=1e-4)
        results.append("right" if equal else "instead" if same else "wrong")
    print(f"{name:<32}", " ".join(f"{result:<11}" for result in results).rstrip())


print(" " * 32, "onnxruntime openvino    tract")
caption = {key: numbers(1, 2, 5, 4) for key in "qkv"}
step = {key: value[:, :, 4:] for key, value in caption.items()}
past = {"past_k": caption["k"][:, :, :4], "past_v": caption["v"][:, :, :4]}
compared("causal, whole caption", "Attention", caption, is_causal=1)
compared("causal, a word after 4 cached", "Attention", {**step, **past}, is_causal=1,
         instead=lambda inputs: inputs["past_v"][:, :, :1])
compared("the same, not causal", "Attention", {**step, **past})
compared("causal, 1 word to the left", "Attention", caption, opset=25, is_causal=1, left_window_size=1,
         instead={"is_causal": 1})
for operator, gates in ("GRU", 3), ("LSTM", 4), ("RNN", 1):
    for direction, count in ("forward", 1), ("bidirectional", 2), ("reverse", 1):
        weights = {"w": numbers(count, gates * 3, 4), "r": numbers(count, gates * 3, 3), "b": numbers(count, gates * 6)}
        compared(f"{operator} {direction}", operator, {"x": numbers(5, 1, 4)}, weights, hidden_size=3, direction=direction,
                 instead={"hidden_size": 3, "direction": "forward"} if count == 1 else None)
weights, words = {"w": numbers(1, 3, 4), "r": numbers(1, 3, 3), "b": numbers(1, 6)}, numbers(5, 1, 4)
states = [numpy.zeros((1, 3), "float32")]  # ONNX's reference knows tanh only
for word in words:
    total = word @ weights["w"][0].T + states[-1] @ weights["r"][0].T + weights["b"][0, :3] + weights["b"][0, 3:]
    states.append(numpy.maximum(total, 0))
compared("RNN with ReLU", "RNN", {"x": words}, weights, truth=numpy.stack(states[1:])[:, None], hidden_size=3,
         activations=["Relu"], instead={"hidden_size": 3})
PROGRAM
)
expected="                                 onnxruntime openvino    tract
causal, whole caption            right       right       right
causal, a word after 4 cached    right       right       instead
the same, not causal             right       right       right
causal, 1 word to the left       right       instead     instead
GRU forward                      right       right       right
GRU bidirectional                right       right       right
GRU reverse                      right       right       instead
LSTM forward                     right       right       right
LSTM bidirectional               right       right       right
LSTM reverse                     right       right       instead
RNN forward                      right       right       right
RNN bidirectional                right       right       right
RNN reverse                      right       right       instead
RNN with ReLU                    right       right       instead"
printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || { printf 'this differs from what was seen before:\n%s\n' "$expected"; exit 1; }
