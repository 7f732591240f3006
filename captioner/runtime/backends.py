"""Which side captions: torch, or onnxruntime where it is installed and the model has ONNX files."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from captioner.checkpoint.onnx.description import find_onnx
from captioner.errors import CaptionerError
from captioner.runtime.sessions import INSTALL, onnxruntime_is_installed

BACKENDS = ("auto", "torch", "onnx")


def torch_is_installed() -> bool:
    """Whether torch can be imported; it is not imported here."""
    return importlib.util.find_spec("torch") is not None


def has_gpu() -> bool:
    """Whether torch may find a GPU here, as far as the system tells without torch: NVIDIA's driver, or macOS."""
    return sys.platform == "darwin" or Path("/proc/driver/nvidia/version").exists()


def device_needs_torch(backend: str, device: str) -> str | None:
    """Why `--device` and this machine need torch, for `choose_backend`; None where they do not."""
    if device not in ("auto", "cpu"):
        return f"--device {device}"
    return "the GPU" if backend == device == "auto" and has_gpu() else None


def choose_backend(wanted: str, checkpoint: str | Path, needs_torch: str | None = None) -> str:
    """The side for a checkpoint: "onnx" or "torch".

    wanted: one of BACKENDS. "auto" is onnxruntime where the checkpoint has ONNX files, onnxruntime is installed, and
    nothing needs torch. needs_torch: what does, such as "--score", or None. CaptionerError for what is impossible.
    """
    has_files = find_onnx(Path(checkpoint)) is not None
    if wanted == "onnx" and needs_torch is not None:
        raise CaptionerError(f"{needs_torch} needs torch: leave out {needs_torch} or --backend onnx.")
    if wanted == "onnx" or (wanted == "auto" and has_files and needs_torch is None and onnxruntime_is_installed()):
        return "onnx"
    if not torch_is_installed():
        reason = needs_torch or ("--backend torch" if wanted == "torch" else f"{checkpoint} has no ONNX files, so it")
        if has_files and needs_torch is None and wanted == "auto":
            raise CaptionerError(f"Neither torch nor onnxruntime is installed: {INSTALL}.")
        raise CaptionerError(f"{reason} needs torch, which is not installed: pip install captioner.")
    return "torch"
