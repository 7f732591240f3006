#!/usr/bin/env bash
# TVM reads an exported program without the factor of a sum, the scale of SELU and the order of a grid, and rounds where nearest cuts off.
#
# Packages: apache-tvm 0.27.0.post1, torch 2.14.1 (processor, LLVM). Seen on 2026-11-30.
# Expected: relax.frontend.torch.from_exported_program gives a program that computes what the module computes, or refuses an
#           operator or an option that it does not know, as it does with 55 of 269 (adaptive_max_pool2d, kthvalue, …). torch.add:
#           "input + alpha × other"; F.grid_sample: a grid of shape (N, H_out, W_out, 2) gives (N, C, H_out, W_out). Guess written
#           before the run of modules and functions that captioners use: equal to 1e-4 or refused.
# Seen:     214 of 269 are equal (LSTM, GRU, RNN and their cells, attention with every kind of mask, convolutions, reductions).
#           With a success and no message these are not:
#           1. alpha of add, sub and rsub is dropped, also of add_: torch.add(words, image, alpha=0.1) is words + image. The same
#              written as words + 0.1 * image is right, and so are addmm and baddbmm.
#           2. selu is too small by 1.05: the exporter writes it as elu with three factors, of which one is read.
#           3. grid_sample takes the grid as (N, 2, H_out, W_out), which is TVM's own order. Two by two places are sampled at
#              others; a mean over any number of places is wrong; without it the shape is (N, C, W_out, 2), an error only where
#              something else needs the shape. (The frontend of TVM before Relax transposed the grid.)
#           4. interpolate(mode="nearest") to fewer rows rounds the place where torch takes the whole part.
#           Of these, avg_pool2d(divisor_override=…), wrong as well, was known to the tracker on that date
#           (https://github.com/apache/tvm/issues/14795, of the frontend before); the four above were not found there.
# Here:     captioner does not export to TVM, and its programs have none of the four. Write factors as products, and compare what
#           TVM returns with the module, number by number, not by shape.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check apache-tvm==0.27.0.post1 torch==2.14.1 numpy==2.4.6
seen=$("$folder/venv/bin/python" -W ignore - 2> "$folder/messages" << 'PROGRAM'
import torch
import torch.nn.functional as F
import tvm
from tvm import relax
from tvm.relax.frontend.torch import from_exported_program

words, image = torch.tensor([[1.0, -2.0, 3.0]]), torch.tensor([[10.0, 20.0, 30.0]])
regions = torch.arange(12.0).reshape(1, 1, 3, 4)
# Places of four regions: above left, below right, above right, below left.
places = torch.tensor([[[[-1.0, -1.0], [1.0, 1.0]], [[1.0, -1.0], [-1.0, 1.0]]]])
six_places = torch.cat([places, torch.tensor([[[[0.0, 0.0], [1.0, 0.0]]]])], dim=1)


class Call(torch.nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        return self.function(*tensors)


def shown(values) -> str:
    return f"{tuple(values.shape)} " + " ".join(f"{float(value):.2f}" for value in values.flatten())


def compared(name: str, function, *tensors: torch.Tensor) -> None:
    """Prints the result of the module, and that of TVM where it differs."""
    exported = torch.export.export(Call(function).eval(), tensors)
    machine = relax.VirtualMachine(tvm.compile(from_exported_program(exported), target="llvm"), tvm.cpu())
    found = machine["main"](*(tvm.runtime.tensor(tensor.numpy()) for tensor in tensors))
    found = shown((found if isinstance(found, tvm.runtime.Tensor) else found[0]).numpy())
    expected = shown(exported.module()(*tensors) + 0.0)
    print(f"{name:<24} torch {expected}")
    if found != expected:
        print(f"{'':<26} tvm {found}")


def sampled(regions: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    return F.grid_sample(regions, places, align_corners=True)


compared("add, alpha", lambda a, b: torch.add(a, b, alpha=0.1), words, image)
compared("add_, alpha", lambda a, b: a.clone().add_(b, alpha=0.1), words, image)
compared("sub, alpha", lambda a, b: torch.sub(a, b, alpha=2), words, image)
compared("rsub, alpha", lambda a, b: torch.rsub(a, b, alpha=3), words, image)
compared("a product", lambda a, b: a + 0.1 * b, words, image)
compared("addmm, alpha", lambda a, b: torch.addmm(a, b, torch.eye(3), alpha=0.1), words, image)
compared("selu", F.selu, words)
compared("elu", F.elu, words)
compared("four places", sampled, regions, places)
compared("mean of six places", lambda r, p: sampled(r, p).mean((2, 3)), regions, six_places)
compared("six places", sampled, regions, six_places)
compared("nearest, 3 x 4 to 2 x 3", lambda r: F.interpolate(r, size=(2, 3)), regions)
compared("nearest, 3 x 4 to 6 x 8", lambda r: F.interpolate(r, size=(6, 8)).sum((2, 3)), regions)
PROGRAM
)
expected="add, alpha               torch (1, 3) 2.00 0.00 6.00
                           tvm (1, 3) 11.00 18.00 33.00
add_, alpha              torch (1, 3) 2.00 0.00 6.00
                           tvm (1, 3) 11.00 18.00 33.00
sub, alpha               torch (1, 3) -19.00 -42.00 -57.00
                           tvm (1, 3) -9.00 -22.00 -27.00
rsub, alpha              torch (1, 3) 7.00 26.00 21.00
                           tvm (1, 3) 9.00 22.00 27.00
a product                torch (1, 3) 2.00 0.00 6.00
addmm, alpha             torch (1, 3) 2.00 0.00 6.00
selu                     torch (1, 3) 1.05 -1.52 3.15
                           tvm (1, 3) 1.00 -1.45 3.00
elu                      torch (1, 3) 1.00 -0.86 3.00
four places              torch (1, 1, 2, 2) 0.00 11.00 3.00 8.00
                           tvm (1, 1, 2, 2) 8.00 0.00 3.00 11.00
mean of six places       torch (1, 1) 5.75
                           tvm (1, 1) 5.50
six places               torch (1, 1, 3, 2) 0.00 11.00 3.00 8.00 5.50 7.00
                           tvm (1, 1, 2, 2) 8.00 0.00 3.00 11.00
nearest, 3 x 4 to 2 x 3  torch (1, 1, 2, 3) 0.00 1.00 2.00 4.00 5.00 6.00
                           tvm (1, 1, 2, 3) 0.00 2.00 3.00 8.00 10.00 11.00
nearest, 3 x 4 to 6 x 8  torch (1, 1) 264.00"
printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || { printf 'this differs from what was seen before:\n%s\n' "$expected"; exit 1; }
