#!/usr/bin/env bash
# OpenVINO counts positions in a mask of captions up to 255, then from 0 again; times the mask, every position is 1.
#
# Packages: openvino 2026.4.1, torch 2.14.1 (processor). Seen on 2026-11-29.
# Expected: openvino.convert_model gives a model that computes what the torch module computes, or an error. "mask.cumsum(1)" of
#           a bool mask counts in int64 (documentation of torch.cumsum: an integer result, whatever the mask's type);
#           decoders get the positions of words so where captions are padded, from (tokens != PAD).cumsum(1). Guess written
#           before the run of 400 functions and options that captioners use: equal, but for ties of topk, NaN and some pools.
# Seen:     the converted count keeps the type of the mask. It is right for short texts all the same, since the processor's
#           kernel adds up the mask's bytes as they are and only the next conversion looks at them. So (1) from word 256 on the
#           count starts at 0 again: word 256 gets the embedding of position 0, a length of 280 is 24, and with uint8 and
#           int8 masks it is so, too. A test with shorter captions passes. (2) Where the count meets nothing but other masks, it
#           is a bool: the usual formula that gives padding position 0, mask.cumsum(1) * mask, becomes "and", and every word
#           has position 1. All shapes are right and nothing is said, with traced modules and with torch.export. Right are
#           .int().cumsum(1), cumsum(1, dtype=torch.int64) and mask.sum(1), which was mended in
#           https://github.com/openvinotoolkit/openvino/pull/22699. 2025.4.1 does the same. Not known to the
#           tracker on that date; TVM's of the same call is: https://github.com/apache/tvm/pull/20374.
# Here:     captioner's positions come from arange, and it converts with onnxruntime only (captioner/checkpoint/onnx).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    torch==2.14.1 openvino==2026.4.1 numpy==2.4.6 packaging==26.4
seen=$("$folder/venv/bin/python" -W ignore - 2> /dev/null << 'PROGRAM'
import logging

import openvino
import torch

logging.disable(logging.WARNING)
PAD, LONGEST = 0, 400
tokens = torch.ones(1, 300, dtype=torch.int64)
tokens[0, 280:] = PAD
WORDS = [0, 1, 254, 255, 279, 299]


class Positions(torch.nn.Module):
    """The number that an embedding of positions has for each word: row i of its table is i."""

    def __init__(self, count) -> None:
        super().__init__()
        self.count = count
        self.table = torch.nn.Embedding.from_pretrained(torch.arange(float(LONGEST)).reshape(-1, 1))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.table(self.count(tokens != PAD)).squeeze(-1)


class Length(torch.nn.Module):
    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return (tokens != PAD).cumsum(1)[:, -1] + 0


def converted(module: torch.nn.Module, exported: bool) -> list[int]:
    source = torch.export.export(module, (tokens,)) if exported else module
    model = openvino.convert_model(source, example_input=None if exported else (tokens,))
    result = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([tokens.numpy()])[0]
    return result.astype(int).flatten().tolist()


def at_words(numbers: list[int]) -> str:
    return " ".join(f"{numbers[i]:>3}" for i in WORDS) if len(numbers) > 1 else str(numbers[0])


print("word" + " " * 32, at_words(list(range(1, 301))))
for name, module in {
    "mask.cumsum(1)": Positions(lambda mask: mask.cumsum(1)),
    "mask.cumsum(1) * mask": Positions(lambda mask: mask.cumsum(1) * mask),
    "mask.int().cumsum(1) * mask": Positions(lambda mask: mask.int().cumsum(1) * mask),
    "length": Length(),
}.items():
    print(f"{name:<27} torch   ", at_words(module.eval()(tokens).int().flatten().tolist()))
    for exported in (False, True):
        print(" " * 27, "exported" if exported else "traced  ", at_words(converted(module, exported)))
PROGRAM
)
expected="word                                   1   2 255 256 280 300
mask.cumsum(1)              torch      1   2 255 256 280 280
                            traced     1   2 255   0  24  24
                            exported   1   2 255   0  24  24
mask.cumsum(1) * mask       torch      1   2 255 256 280   0
                            traced     1   1   1   0   1   0
                            exported   1   1   1   0   1   0
mask.int().cumsum(1) * mask torch      1   2 255 256 280   0
                            traced     1   2 255 256 280   0
                            exported   1   2 255 256 280   0
length                      torch    280
                            traced   24
                            exported 24"
printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || { printf 'this differs from what was seen before:\n%s\n' "$expected"; exit 1; }
