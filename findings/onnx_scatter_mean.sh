#!/usr/bin/env bash
# Exported to ONNX by torch, scatter_reduce with "mean" returns the last value instead of the mean, without a warning.
#
# Packages: torch 2.14.1, onnx 1.23.2, onnxscript 0.7.2, onnxruntime 1.32.0. Seen on 2026-11-29.
# Expected: torch.onnx.export gives a model that computes what the module computes, or an error: ONNX's ScatterElements has no
#           mean (https://github.com/onnx/onnx/issues/5100), and the answer to who needs one is that it "won't be supported"
#           (https://github.com/pytorch/pytorch/issues/101535). Guess written before the run, for this and other
#           functions that captioners use: equal, or refused.
# Seen:     the exporter (dynamo=True, the default) writes ScatterElements with the reduction "none", so the values that should
#           be averaged overwrite one another; ONNX leaves the result open where an index comes twice, and onnxruntime and
#           ONNX's own reference keep the last value. Sum, product, minimum and maximum are right, with and without
#           include_self. (The old exporter, dynamo=False, refuses; not run here.) Encoders that merge similar patches to be
#           faster (Bolya et al. 2023, "Token Merging", section 3) average them by this call: below, the exported one
#           gives other features when only the order of the patches has changed, and its error is 1.76 times the spread of
#           the features. Means of patches by region, or of subwords by word, are written so, too.
# Here:     captioner does not use this call: it adds with index_add, which is exported rightly. Its export is compared with
#           torch (docs/runtime.md), as any export should be.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    torch==2.14.1 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0 numpy==2.4.6
seen=$("$folder/venv/bin/python" - 2> "$folder/messages" << 'PROGRAM'
import logging
import warnings

import onnxruntime
import torch
from onnx.reference import ReferenceEvaluator

logging.disable(logging.INFO)


class Scatter(torch.nn.Module):
    """The tokens of each target, reduced to one."""

    def __init__(self, reduction, include_self):
        super().__init__()
        self.reduction, self.include_self = reduction, include_self

    def forward(self, kept, targets, merged):
        targets = targets[:, None].expand_as(merged)
        return kept.scatter_reduce(0, targets, merged, self.reduction, include_self=self.include_self)


def by_hand(module, kept, targets, merged):
    rows = []
    for row, first in enumerate(kept):
        group = [first] * module.include_self + [value for value, target in zip(merged, targets) if target == row]
        stack = torch.stack(group or [first])
        rows.append(getattr(stack, module.reduction)(dim=0))
    return torch.stack(rows)


def exported(module, inputs):
    """The model, and whether a warning spoke of the function."""
    with warnings.catch_warnings(record=True) as messages:
        warnings.simplefilter("always")
        model = torch.onnx.export(module, inputs, dynamo=True, verbose=False).model_proto
    return model, any("scatter" in str(message.message).lower() for message in messages)


def run(model, inputs):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    values = {entry.name: value.numpy() for entry, value in zip(session.get_inputs(), inputs)}
    return session.run(None, values)[0], ReferenceEvaluator(model).run(None, values)[0]


inputs = torch.ones(3, 1), torch.tensor([1, 1, 1, 2]), torch.tensor([[5.0], [2.0], [3.0], [4.0]])
for reduction in ("sum", "prod", "amin", "amax", "mean"):
    for include_self in (True, False):
        module = Scatter(reduction, include_self)
        assert torch.allclose(module(*inputs), by_hand(module, *inputs))
        model, warned = exported(module, inputs)
        by_torch = [round(value, 2) for value in module(*inputs).flatten().tolist()]
        by_runtime, by_reference = (values.flatten().tolist() for values in run(model, inputs))
        print(f"{reduction:4} {include_self!s:5} torch", *by_torch, "onnxruntime", *by_runtime, "reference", *by_reference,
              "warned" if warned else "silent")

torch.manual_seed(0)
patches, order = (torch.randn(8, 16), torch.randint(8, (24,)), torch.randn(24, 16)), torch.randperm(24)
shuffled = (patches[0], patches[1][order], patches[2][order])
module = Scatter("mean", True)
model, _ = exported(module, patches)
(one, _), (other, _) = run(model, patches), run(model, shuffled)
print("other order of patches: torch the same", torch.allclose(module(*patches), module(*shuffled), atol=1e-5),
      "| exported the same", bool(abs(one - other).max() < 1e-5))
error = float((module(*patches) - torch.from_numpy(one)).std() / module(*patches).std())
print("its error is larger than the features' spread:", error > 1)
PROGRAM
) || { cat "$folder/messages" >&2; exit 1; }
expected="sum  True  torch 1.0 11.0 5.0 onnxruntime 1.0 11.0 5.0 reference 1.0 11.0 5.0 silent
sum  False torch 1.0 10.0 4.0 onnxruntime 1.0 10.0 4.0 reference 1.0 10.0 4.0 silent
prod True  torch 1.0 30.0 4.0 onnxruntime 1.0 30.0 4.0 reference 1.0 30.0 4.0 silent
prod False torch 1.0 30.0 4.0 onnxruntime 1.0 30.0 4.0 reference 1.0 30.0 4.0 silent
amin True  torch 1.0 1.0 1.0 onnxruntime 1.0 1.0 1.0 reference 1.0 1.0 1.0 silent
amin False torch 1.0 2.0 4.0 onnxruntime 1.0 2.0 4.0 reference 1.0 2.0 4.0 silent
amax True  torch 1.0 5.0 4.0 onnxruntime 1.0 5.0 4.0 reference 1.0 5.0 4.0 silent
amax False torch 1.0 5.0 4.0 onnxruntime 1.0 5.0 4.0 reference 1.0 5.0 4.0 silent
mean True  torch 1.0 2.75 2.5 onnxruntime 1.0 3.0 4.0 reference 1.0 3.0 4.0 silent
mean False torch 1.0 3.33 4.0 onnxruntime 1.0 3.0 4.0 reference 1.0 3.0 4.0 silent
other order of patches: torch the same True | exported the same False
its error is larger than the features' spread: True"
printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || { printf 'this differs from what was seen before:\n%s\n' "$expected"; exit 1; }
