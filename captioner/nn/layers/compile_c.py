"""A small C file of the package as a library, compiled for this processor at the first use.

It takes a quarter of a second with the machine's C compiler, once: the library is kept in the cache folder, under a
name that changes with the source, the compiler and the processor. Where there is no compiler, or anything else is
amiss, there is no library, and the callers compute the same with torch, more slowly. `CAPTIONER_COMPILE=0` does
without a compiler.

A library has no threads of its own: its OpenMP functions are those of the library that torch has loaded. Where they
cannot be found, it computes with one thread.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from captioner.files import cache_directory, write_atomically

logger = logging.getLogger(__name__)

# What -ffast-math has, without what changes the meaning of infinity or of other code's tiny numbers.
_FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-fassociative-math")
_SECONDS = 60.0  # for the compiler


def compiling_is_allowed() -> bool:
    """Whether the user lets us compile."""
    return os.environ.get("CAPTIONER_COMPILE") != "0"


def load_c(source: Path, is_right: Callable[[ctypes.CDLL], bool]) -> ctypes.CDLL | None:
    """The compiled file, if `is_right` says that it computes what it should; otherwise None."""
    compilers = [name for name in ("cc", "gcc", "clang") if shutil.which(name)]
    command = shlex.split(os.environ.get("CC", "")) or compilers[:1]
    if not command:
        logger.debug("No C compiler: %s is computed with torch.", source.stem)
        return None
    for flags in ((*_FLAGS, "-fopenmp"), _FLAGS):
        try:
            library = ctypes.CDLL(str(_library(source, command, flags)))
            if is_right(library):
                return library
            logger.debug("%s compiled a wrong %s with %s.", command[0], source.stem, " ".join(flags))
        except (OSError, AttributeError, subprocess.SubprocessError) as error:
            logger.debug("No compiled %s with %s: %s", source.stem, " ".join(flags), error)
    return None


def _library(source: Path, command: list[str], flags: tuple[str, ...]) -> Path:
    """The path of the library, which is compiled if the cache folder has none."""
    about = "\n".join([*command, *flags, str(shutil.which(command[0])), _processor()]).encode()
    name = f"{source.stem}_{hashlib.sha256(source.read_bytes() + about).hexdigest()[:20]}.so"
    cached = cache_directory() / "kernels" / name
    if cached.exists():
        return cached
    with tempfile.TemporaryDirectory(prefix="captioner-", ignore_cleanup_errors=True) as folder:
        objects, library = Path(folder) / "kernel.o", Path(folder) / name
        # Linked without the OpenMP library, so that its functions are those that torch has loaded.
        compiled = [*flags, "-fPIC", "-c", str(source), "-o", str(objects)]
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
