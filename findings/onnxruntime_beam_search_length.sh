#!/usr/bin/env bash
# onnxruntime's BeamSearch operator gives a prompt another caption when a longer prompt shares its batch.
#
# Packages: onnxruntime 1.32.0, onnx 1.23.2 (processor). Seen on 2026-11-29.
# Expected: the text of the operator says of length_penalty "Default value 1.0 means no penalty", so the sequence with the
#           highest probability wins; and a row padded on the left (its mask is made from the padding) gives what it gives
#           alone. Guess written before the run: 1.0 is the mean over the generated words, as in transformers 5.
# Seen:     the sum of log-probabilities is divided by (prompt + padding + generated words, without END) ** length_penalty,
#           though END's probability is in the sum. So 0.0 is no penalty, 1.0 ranks by a mean that a longer prompt, or the
#           padding beside a longer one, makes weaker: alone, "2" continues "3 3 3"; padded by four, it ends at once. The
#           two scores below are those of this rule. transformers had the same padding in its length:
#           https://github.com/huggingface/transformers/issues/25455
# Here:     captioner's search runs outside the exported graph and counts generated words only
#           (captioner/decode); a test holds that a batch gives what its images give alone.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check onnxruntime==1.32.0 onnx==1.23.2
seen=$("$folder/venv/bin/python" - << 'PROGRAM'
import math

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

PAD, END = 0, 1
NEXT = np.array([[1e-9, 0.6, 1e-9, 0.4], [1e-9, 0.6, 1e-9, 0.4], [1e-9, 0.6, 1e-9, 0.4], [1e-9, 0.05, 1e-9, 0.95]])
"""A language model of two words, 2 and 3: the row of the last word has the probabilities of the next."""


def integer(name, *shape):
    return helper.make_tensor_value_info(name, TensorProto.INT32, shape)


def real(name, *shape):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


decoder = helper.make_graph(
    [
        helper.make_node("Gather", ["log_next", "input_ids"], ["logits"]),
        helper.make_node("Cast", ["input_ids"], ["words"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["words", "axes"], ["key"]),
        helper.make_node("Concat", ["key", "key"], ["key_value"], axis=0),
        helper.make_node("Concat", ["past_0", "key_value"], ["present_0"], axis=3),
    ],
    "decoder",
    [integer("input_ids", "n", "s"), integer("position_ids", "n", "s"), integer("attention_mask", "n", "t"),
     real("past_0", 2, "n", 1, "p", 1)],
    [real("logits", "n", "s", 4), real("present_0", 2, "n", 1, "q", 1)],
    [numpy_helper.from_array(np.log(NEXT).astype(np.float32), "log_next"),
     numpy_helper.from_array(np.array([0, 2, 4]), "axes")],
)
names = ["input_ids", "max_length", "min_length", "num_beams", "num_return_sequences", "length_penalty"]
search = helper.make_node("BeamSearch", names, ["sequences", "sequences_scores"], domain="com.microsoft", model_type=0,
                          eos_token_id=END, pad_token_id=PAD, decoder=decoder)
graph = helper.make_graph(
    [search], "search", [integer("input_ids", "n", "s"), *(integer(name, 1) for name in names[1:-1]), real(names[-1], 1)],
    [integer("sequences", "n", "r", "m"), real("sequences_scores", "n", "r")],
)
opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def best(prompts, length_penalty):
    """The first row's best continuation by up to three words, and its score. 16 beams leave nothing out."""
    values = [len(prompts[0]) + 3, 0, 16, 1]
    inputs = {name: np.array([value], np.int32) for name, value in zip(names[1:-1], values)}
    inputs |= {"input_ids": np.array(prompts, np.int32), "length_penalty": np.array([length_penalty], np.float32)}
    sequences, scores = session.run(None, inputs)
    return sequences[0, 0, len(prompts[0]) :].tolist(), round(float(scores[0, 0]), 3)


print("no penalty, 0.0 ", *best([[2]], 0.0))
print("no penalty, 1.0 ", *best([[2]], 1.0))
print("padded          ", *best([[PAD] * 4 + [2], [2, 3, 2, 3, 2]], 1.0))
print("by hand: END / 5, 3 3 3 / 4, 3 3 3 / 8:", *(round(x, 3) for x in (
    math.log(0.6) / 5, math.log(0.4 * 0.95**2) / 4, math.log(0.4 * 0.95**2) / 8)))
PROGRAM
)
expected="no penalty, 0.0  [0, 0, 0] -0.511
no penalty, 1.0  [3, 3, 3] -0.255
padded           [0, 0, 0] -0.102
by hand: END / 5, 3 3 3 / 4, 3 3 3 / 8: -0.102 -0.255 -0.127"
printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || { printf 'this differs from what was seen before:\n%s\n' "$expected"; exit 1; }
