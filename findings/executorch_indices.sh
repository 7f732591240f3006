#!/usr/bin/env bash
# executorch mixes up the pairs that nonzero returns, and its % of integers has the sign of C's.
#
# Packages: executorch 1.5.1, torch 2.14.1 (processor, portable kernels). Seen on 2026-11-29.
# Expected: a module that was exported computes what it computed, or is refused. torch.nonzero (argwhere) gives a row and a column
#           for each True; of %, "the result has the same sign as the divisor" (documentation of torch.remainder). Guess written
#           before the run of functions and options that captioners use: equal or refused, but for ties of topk and pools with
#           ceil_mode.
# Seen:     1. The places of the words of two captions, nonzero(tokens != PAD), come out as others: one word is missing, another
#              comes twice. The kernel writes pair after pair, while the exported program says that columns lie one after
#              the other, as they do in torch, and the result is read so. contiguous() does not help, and sums of the
#              pairs are wrong inside the program as well. Shape and type are right and nothing is said. A slice of the
#              result, or a + 1, is an error; nonzero of a vector and tokens[tokens != PAD] are right.
#           2. With integers of 32 and 64 bits -2 % 5 is -2 instead of 3. // is right, so a == a // b * b + a % b does not hold.
#              Floats are right, for them it was mended in 2023 (https://github.com/pytorch/executorch/pull/90). Distances to
#              later words are negative: a mask that lets each word attend to those whose distance, modulo 4, is 0 or 1
#              passes 50 of 64 words instead of 32.
#           The exported program itself, run by torch, is right. Neither was known to the tracker on that date; other
#           trouble with the order of dimensions is: https://github.com/pytorch/executorch/issues/16507.
# Here:     captioner does not export to executorch. Compare what the runtime returns with the module, not with torch.export.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check executorch==1.5.1 torch==2.14.1 numpy==2.4.6
seen=$("$folder/venv/bin/python" -W ignore - 2> "$folder/messages" << 'PROGRAM'
import logging

import torch
from executorch.exir import to_edge
from executorch.runtime import Runtime

logging.disable(logging.WARNING)
PAD = 0
tokens = torch.tensor([[5, 7, 9, PAD], [4, 8, PAD, PAD]])
numbers = torch.tensor([-7, -2, -1, 0, 2, 7])


class Call(torch.nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        return self.function(numbers)


def compared(name: str, function, numbers: torch.Tensor) -> None:
    """Prints the results of the module, and where they differ those of the exported program and of executorch."""
    module = Call(function)
    exported = torch.export.export(module, (numbers,))
    program = Runtime.get().load_program(to_edge(exported).to_executorch().buffer)
    expected, by_torch = module(numbers).tolist(), exported.module()(numbers).tolist()
    found = program.load_method("forward").execute([numbers])[0].tolist()
    print(f"{name:<26} torch {expected}" + ("" if by_torch == expected else f" exported {by_torch}"))
    if found != expected:
        print(f"{'':<20} executorch {found}")


compared("nonzero", lambda tokens: torch.nonzero(tokens != PAD), tokens)
compared("argwhere, contiguous", lambda tokens: torch.argwhere(tokens != PAD).contiguous(), tokens)
compared("nonzero, sums", lambda tokens: torch.nonzero(tokens != PAD).sum(1), tokens)
compared("nonzero of a vector", lambda tokens: torch.nonzero(tokens != PAD), tokens[0])
compared("numbers % 5, int64", lambda numbers: numbers % 5, numbers)
compared("numbers % 5, int32", lambda numbers: numbers % 5, numbers.int())
compared("numbers % -5, int64", lambda numbers: numbers % -5, numbers)
compared("numbers % tensor, int64", lambda numbers: torch.remainder(numbers, torch.tensor([5])), numbers)
compared("numbers % 5, float32", lambda numbers: numbers % 5, numbers.float())
compared("numbers // 5, int64", lambda numbers: numbers // 5, numbers)
compared("words attended to", lambda words: ((words.unsqueeze(1) - words.unsqueeze(0)) % 4 < 2).sum(), torch.arange(8))
PROGRAM
)
expected="nonzero                    torch [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1]]
                     executorch [[0, 2], [0, 1], [0, 0], [1, 1], [0, 1]]
argwhere, contiguous       torch [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1]]
                     executorch [[0, 2], [0, 1], [0, 0], [1, 1], [0, 1]]
nonzero, sums              torch [0, 1, 2, 1, 2]
                     executorch [2, 1, 0, 2, 1]
nonzero of a vector        torch [[0], [1], [2]]
numbers % 5, int64         torch [3, 3, 4, 0, 2, 2]
                     executorch [-2, -2, -1, 0, 2, 2]
numbers % 5, int32         torch [3, 3, 4, 0, 2, 2]
                     executorch [-2, -2, -1, 0, 2, 2]
numbers % -5, int64        torch [-2, -2, -1, 0, -3, -3]
                     executorch [-2, -2, -1, 0, 2, 2]
numbers % tensor, int64    torch [3, 3, 4, 0, 2, 2]
                     executorch [-2, -2, -1, 0, 2, 2]
numbers % 5, float32       torch [3.0, 3.0, 4.0, 0.0, 2.0, 2.0]
numbers // 5, int64        torch [-2, -1, -1, 0, 0, 1]
words attended to          torch 32
                     executorch 50"
printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || { printf 'this differs from what was seen before:\n%s\n' "$expected"; exit 1; }
