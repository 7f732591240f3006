#!/usr/bin/env bash
# torch's interpolate(antialias=True, align_corners=True) aligns neither corner; exported to ONNX, it aligns both.
#
# Packages: torch 2.14.1, onnx 1.23.2, onnxscript 0.7.2, onnxruntime 1.32.0. Seen on 2026-11-29.
# Expected: with align_corners the centers of the corner pixels coincide and keep their values (documentation of
#           torch.nn.functional.interpolate). Enlarging needs no anti-aliasing, so 0, 10, 20, 30 becomes 0, 5, …, 30 with and
#           without it, and a mirrored image gives the mirrored result. Guess written before the run: that, or an error.
# Seen:     0, 2.5, 7.5, …, 27.5: the step between samples is the one of aligned corners, (in - 1) / (out - 1), but the
#           samples begin half a step from the border, as without. The result is shifted to the left and up, so it depends
#           on which side is left. onnxruntime, given torch's own export of the same call, returns 0, 5, …, 30: model and
#           exported model differ, and neither warns. (A remark in https://github.com/pytorch/pytorch/pull/145526 says that
#           align_corners is ignored here; its scale is not.)
# Here:     captioner resizes photos with Pillow and maps of attention without both settings together. Position embeddings
#           or maps resized by this pair of settings are shifted by up to half a step.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    torch==2.14.1 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0
seen=$("$folder/venv/bin/python" -W ignore - << 'PROGRAM'
import logging

import onnxruntime
import torch
from torch.nn.functional import interpolate

logging.disable(logging.WARNING)


class Resize(torch.nn.Module):
    def __init__(self, antialias: bool) -> None:
        super().__init__()
        self.antialias = antialias

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return interpolate(image, (7, 7), mode="bilinear", align_corners=True, antialias=self.antialias)


def row(image: torch.Tensor) -> list[float]:
    return [round(value, 3) + 0.0 for value in image[0, 0, 0].tolist()]


image = torch.tensor([0.0, 10, 20, 30]).expand(1, 1, 4, 4).contiguous()
for antialias in (False, True):
    resize = Resize(antialias)
    exported = torch.onnx.export(resize, (image,), dynamo=True, verbose=False).model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    (by_onnx,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
    print("antialias", antialias)
    print("  torch   ", row(resize(image)))
    print("  mirrored", row(resize(image.flip(3)).flip(3)))
    print("  exported", row(torch.from_numpy(by_onnx)))
PROGRAM
)
expected="antialias False
  torch    [0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0]
  mirrored [0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0]
  exported [0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0]
antialias True
  torch    [0.0, 2.5, 7.5, 12.5, 17.5, 22.5, 27.5]
  mirrored [2.5, 7.5, 12.5, 17.5, 22.5, 27.5, 30.0]
  exported [0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0]"
printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || { printf 'this differs from what was seen before:\n%s\n' "$expected"; exit 1; }
