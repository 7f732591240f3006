"""`additive_kernel.c` as functions, where this machine can compile it (`compile_c`)."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

import torch
from torch import Tensor

from captioner.nn.layers.compile_c import compiling_is_allowed, load_c

_SOURCE = Path(__file__).with_name("additive_kernel.c")
KERNEL_TYPES = {torch.float32: "float32", torch.float64: "float64"}


class CompiledKernels:
    """The functions of the library; their equations are in `additive_kernel.c`. All tensors are contiguous."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library

    def energies(self, keys: Tensor, score: Tensor, query: Tensor, images: Tensor) -> Tensor:
        """e (N, P); keys: exp(2 k), (B, P, A); query: exp(2 q), (N, A); images: (N,) int64."""
        energies = query.new_empty(len(query), keys.shape[1])
        self._call("energies", (keys, score, query, images, energies), query, keys)
        return energies

    def add_gradients(
        self, keys: Tensor, query: Tensor, images: Tensor, gradient: Tensor, keys_sum: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(Σ_p g s, Σ_p g s(1 − s)) of each row, (N, A); adds g s(1 − s) to `keys_sum`. gradient: g, (N, P)."""
        weighted, slopes = torch.zeros_like(query), torch.zeros_like(query)
        self._call("gradients", (keys, query, images, gradient, weighted, slopes, keys_sum), query, keys)
        return weighted, slopes

    def _call(self, name: str, tensors: tuple[Tensor, ...], query: Tensor, keys: Tensor) -> None:
        function = self._library[f"{KERNEL_TYPES[query.dtype]}_{name}"]
        sizes = (len(query), keys.shape[1], keys.shape[2])
        pointers = [ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors]
        function(*pointers, *map(ctypes.c_int64, sizes), ctypes.c_int(torch.get_num_threads()))


def compiled_kernels() -> CompiledKernels | None:
    """The compiled functions, or None where they cannot be had."""
    return _load_kernels() if compiling_is_allowed() else None


@functools.cache
def _load_kernels() -> CompiledKernels | None:
    library = load_c(_SOURCE, _is_right)
    return None if library is None else CompiledKernels(library)


def _is_right(library: ctypes.CDLL) -> bool:
    """Whether the energies of a small example are those of the equation."""
    keys, score = torch.linspace(-2, 2, 2 * 3 * 37).view(2, 3, 37), torch.linspace(-1, 1, 37)
    query, images = torch.linspace(1, -1, 3 * 37).view(3, 37), torch.tensor([1, 0, 1])
    found = CompiledKernels(library).energies(torch.exp(2 * keys), score, torch.exp(2 * query), images)
    return torch.allclose(found, torch.tanh(keys[images] + query.unsqueeze(1)) @ score, atol=1e-4)
