"""`additive_kernel.c` as functions, compiled for this processor at the first use.

It takes a quarter of a second with the machine's C compiler, once: the library is kept in the cache folder, under a
name that changes with the source, the compiler and the processor. Where there is no compiler, or anything else is
amiss, `compiled_kernels` returns None and the callers compute the same with torch, more slowly.
`CAPTIONER_COMPILE=0` does without a compiler.

It has no threads of its own: its OpenMP functions are those of the library that torch has loaded. Where they cannot be
found, it computes with one thread.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from captioner.files import cache_directory, write_atomically

logger = logging.getLogger(__name__)

_SOURCE = Path(__file__).with_name("additive_kernel.c")
# What -ffast-math has, without what changes the meaning of infinity or of other code's tiny numbers.
_FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-fassociative-math")
KERNEL_TYPES = {torch.float32: "float32", torch.float64: "float64"}
_SECONDS = 60.0  # for the compiler


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
    return None if os.environ.get("CAPTIONER_COMPILE") == "0" else _load_kernels()


@functools.cache
def _load_kernels() -> CompiledKernels | None:
    compilers = [name for name in ("cc", "gcc", "clang") if shutil.which(name)]
    command = shlex.split(os.environ.get("CC", "")) or compilers[:1]
    if not command:
        logger.debug("No C compiler: attention is computed with torch.")
        return None
    for flags in ((*_FLAGS, "-fopenmp"), _FLAGS):
        try:
            kernels = CompiledKernels(ctypes.CDLL(str(_library(command, flags))))
            if _are_right(kernels):
                return kernels
            logger.debug("%s compiled wrong kernels with %s.", command[0], " ".join(flags))
        except (OSError, AttributeError, subprocess.SubprocessError) as error:
            logger.debug("No compiled kernels with %s: %s", " ".join(flags), error)
    return None


def _library(command: list[str], flags: tuple[str, ...]) -> Path:
    """The path of the library, which is compiled if the cache folder has none."""
    source = _SOURCE.read_bytes()
    about = "\n".join([*command, *flags, str(shutil.which(command[0])), _processor()]).encode()
    name = f"additive_{hashlib.sha256(source + about).hexdigest()[:20]}.so"
    cached = cache_directory() / "kernels" / name
    if cached.exists():
        return cached
    with tempfile.TemporaryDirectory(prefix="captioner-", ignore_cleanup_errors=True) as folder:
        objects, library = Path(folder) / "kernel.o", Path(folder) / name
        # Linked without the OpenMP library, so that its functions are those that torch has loaded.
        compiled = [*flags, "-fPIC", "-c", str(_SOURCE), "-o", str(objects)]
        for step in (compiled, ["-shared", str(objects), "-o", str(library)]):
            subprocess.run([*command, *step], check=True, capture_output=True, timeout=_SECONDS)
        cached.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(cached, library.read_bytes())
    return cached


def _processor() -> str:
    """What tells processors apart that have other instructions: a folder may be shared by several machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()} {platform.platform()}"
    return "\n".join(dict.fromkeys(line for line in lines if line.startswith(("model name", "flags", "Features"))))


def _are_right(kernels: CompiledKernels) -> bool:
    """Whether the energies of a small example are those of the equation."""
    keys, score = torch.linspace(-2, 2, 2 * 3 * 37).view(2, 3, 37), torch.linspace(-1, 1, 37)
    query, images = torch.linspace(1, -1, 3 * 37).view(3, 37), torch.tensor([1, 0, 1])
    found = kernels.energies(torch.exp(2 * keys), score, torch.exp(2 * query), images)
    return torch.allclose(found, torch.tanh(keys[images] + query.unsqueeze(1)) @ score, atol=1e-4)
