"""`trainer.compile`: compile the steps of the recurrent cells, which fuses their elementwise operations.

Only the cells' steps are compiled, with dynamic row counts, so captions of another length need no recompilation. This
pays on a GPU, after about a minute of compilation; on a CPU the uncompiled steps are as fast or faster, because they
compute one weight gradient for all steps (see benchmarks/NOTES.md).
"""

from __future__ import annotations

import importlib.util
import os
import shutil

import torch
from torch import nn

from captioner.errors import ConfigError
from captioner.nn.cells import cells_of
from captioner.nn.layers.step_linear import StepLinear


def compile_steps(decoder: nn.Module, device: torch.device) -> int:
    """Replace every cell's `step` by a compiled one, which is compiled at its first call; returns the number of cells.

    Raises ConfigError where the decoder has no RNN cell, or torch.compile lacks its compiler.
    """
    cells = cells_of(decoder)
    if not cells:
        raise ConfigError(
            f"trainer.compile=true has no effect: it compiles RNN cells, and {type(decoder).__name__} has none. Leave "
            "trainer.compile false."
        )
    compilers = (os.environ.get("CXX", "g++"), "clang++")
    if device.type != "mps" and not any(map(shutil.which, compilers)):
        raise ConfigError(
            f"trainer.compile=true needs a C++ compiler, and there is neither {' nor '.join(compilers)}: "
            "install one (Debian: apt install g++), or leave trainer.compile false."
        )
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        raise ConfigError(
            "trainer.compile=true needs Triton on a GPU, and it is not installed: pip install triton, or leave "
            "trainer.compile false."
        )
    for cell in cells:
        for layer in cell.modules():
            if isinstance(layer, StepLinear):
                layer.defers_gradients = False
        cell.step = torch.compile(cell.step, dynamic=True)  # type: ignore[method-assign]
    return len(cells)
