#!/usr/bin/env bash
# ncnn does not repeat a mask of one row for all queries, so words attend to padding, and not to words.
#
# Packages: ncnn 1.0.20261020, pnnx 20261020, torch 2.14.1 (processor). Seen on 2026-11-30.
# Expected: pnnx, ncnn's converter, gives a model that computes what the torch module computes, or says what it leaves out. Of
#           scaled_dot_product_attention, attn_mask's "shape must be broadcastable to the shape of attention weights" (its
#           documentation): padding is the same for every query, so captioners pass it as (batch, 1, 1, words). Guess written
#           before the run of 267 modules that captioners use: equal or refused.
# Seen:     1. The layer expects a row of the mask for each query and does not look whether there is one (so in the source
#              for all processors, src/layer/sdpa.cpp). With one row, the queries are masked by values that are not the mask's
#              and differ from run to run; of up to 3 queries the first was right, of 4 or more none. Shapes are right
#              and nothing is said, for one caption and for a batch, as an input and as a buffer. With one query all is right,
#              so a test of a step of decoding passes. The same mask with a row for each query is right, and so are attention
#              written out, softmax(q @ k.T + mask) @ v, and nn.MultiheadAttention with a key_padding_mask, which
#              become other layers.
#           2. nn.MultiheadAttention(add_zero_attn=True) is converted without the zero, and without a message; for
#              add_bias_kv there is one. Where only the weights are used, m(x, x, x)[1], as for a map of attention, the
#              outputs come instead.
#           Not known to the tracker on that date; the function's conversion came with
#           https://github.com/Tencent/ncnn/pull/4722.
# Here:     captioner does not export to ncnn. For ncnn, expand the mask to a row for each query.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps ncnn==1.0.20261020 pnnx==20261020
cat > "$folder/program.py" << 'PROGRAM'
import pathlib
import re
import subprocess

import numpy
import pnnx
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

torch.manual_seed(0)


class Sdpa(nn.Module):
    def forward(self, query, key, value, mask):
        return scaled_dot_product_attention(query, key, value, attn_mask=mask)


class Written(nn.Module):
    def forward(self, query, key, value, mask):
        return torch.softmax(query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5 + mask, -1) @ value


class Attention(nn.Module):
    def __init__(self, result, **options):
        super().__init__()
        self.attention, self.result = nn.MultiheadAttention(8, 2, batch_first=True, **options), result

    def forward(self, words, *padding):
        return self.attention(words, words, words, *padding)[self.result]


def converted(module, *inputs):
    """The result by torch, and by ncnn, in the script that pnnx writes."""
    with torch.no_grad():
        right = module.eval()(*inputs).numpy()
        torch.jit.trace(module, inputs).save("m.pt")
    shapes = ",".join(f"{list(each.shape)}f32".replace(" ", "") for each in inputs)
    told = subprocess.run([pnnx.EXEC_PATH, "m.pt", f"inputshape={shapes}", "fp16=0"], capture_output=True, text=True, check=True)
    for line in (told.stdout + told.stderr).splitlines():
        if any(word in line for word in ("not support", "unsupported", "ignore", "fail")):
            print("  pnnx:", line)
    written = re.sub(r" +in\d+ = torch.rand.*", "", pathlib.Path("m_ncnn.py").read_text())  # its random inputs
    names = {f"in{number}": each for number, each in enumerate(inputs)}
    exec(written, names)
    return right, names["test_inference"]().numpy()


def equal(right, found):
    return "right" if numpy.allclose(right, found, atol=1e-4) else "wrong"


for batch in (1, 2):
    row = torch.zeros(batch, 1, 1, 6)
    row[..., 3:] = -1e9  # 3 words and 3 paddings
    query, key, value = (torch.randn(batch, 2, length, 4) for length in (20, 6, 6))
    print(f"batch of {batch}, one row:", equal(*converted(Sdpa(), query, key, value, row)))
    print("  one query:", equal(*converted(Sdpa(), query[:, :, :1], key, value, row)))
    print("  a row for each query:", equal(*converted(Sdpa(), query, key, value, row.repeat(1, 1, 20, 1))))
    print("  one row, written out:", equal(*converted(Written(), query, key, value, row)))

words = torch.randn(1, 8, 8)
plain = Attention(0)
print("MultiheadAttention:", equal(*converted(plain, words)))
print("  with padding:", equal(*converted(plain, words, torch.tensor([[0.0] * 5 + [-1e9] * 3]))))
print("  with a zero:", equal(*converted(Attention(0, add_zero_attn=True), words)))
weights = Attention(1)
right, found = converted(weights, words)
print("  weights:", equal(right, found))
weights.result = 0
print("  weights, taken for outputs:", equal(weights(words).detach().numpy(), found))
PROGRAM
cd "$folder"
seen=$("$folder/venv/bin/python" -W ignore program.py)
expected="batch of 1, one row: wrong
  one query: right
  a row for each query: right
  one row, written out: right
batch of 2, one row: wrong
  one query: right
  a row for each query: right
  one row, written out: right
MultiheadAttention: right
  with padding: right
  with a zero: wrong
  weights: wrong
  weights, taken for outputs: right"
printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || { printf 'this differs from what was seen before:\n%s\n' "$expected"; exit 1; }
