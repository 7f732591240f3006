"""Load ONNX graphs with onnxruntime and run them; every failure is one message."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from captioner.errors import CaptionerError, CheckpointError

INSTALL = "pip install 'captioner[runtime]', or captioner-runtime for an environment without torch"


def onnxruntime_is_installed() -> bool:
    """Whether onnxruntime can be imported; it is not imported here."""
    return importlib.util.find_spec("onnxruntime") is not None


def import_onnxruntime() -> Any:
    """The module `onnxruntime`; CaptionerError where it is not installed."""
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise CaptionerError(f"Captioning without torch needs onnxruntime: {INSTALL}.") from error
    return onnxruntime


def session_options(threads: int = 0) -> Any:
    """onnxruntime's options for one graph; threads: 0 for as many as OMP_NUM_THREADS says, or as there are cores."""
    options = import_onnxruntime().SessionOptions()
    options.log_severity_level = 4  # its errors are raised as well
    options.intra_op_num_threads = threads or _threads_of_environment()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads leave the cores to others
    # Processors without VNNI add two products of 8 bits in 16, which overflows: the encoder's regions would be noise.
    options.add_session_config_entry("session.x64quantprecision", "1")
    return options


class Session:
    """One graph. threads: 0 for as many as the machine has cores, or as OMP_NUM_THREADS says."""

    def __init__(self, path: Path, threads: int = 0) -> None:
        runtime = import_onnxruntime()
        options = session_options(threads)
        try:
            self._session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has a type of its own for each kind of failure
            reason = str(error).strip().splitlines()[0]
            raise CheckpointError(
                f"{path} cannot be used by onnxruntime {runtime.__version__} ({reason:.200}). It was altered, or needs "
                "operators that this version does not have: install a newer onnxruntime, or export the model again."
            ) from error
        self.path = path
        self.inputs = [entry.name for entry in self._session.get_inputs()]
        self.outputs = [entry.name for entry in self._session.get_outputs()]

    def run(self, inputs: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        """Output name → array. outputs: those that are wanted; None: all. Inputs that the graph lacks are left out."""
        names = self.outputs if outputs is None else list(outputs)
        try:
            arrays = self._session.run(names, {name: inputs[name] for name in self.inputs})
        except Exception as error:
            reason = str(error).strip().splitlines()[0]
            raise CaptionerError(f"{self.path} cannot be run with these inputs ({reason:.300}).") from error
        return dict(zip(names, arrays, strict=True))


def _threads_of_environment() -> int:
    """OMP_NUM_THREADS, which limits torch as well; 0 where it is not a number."""
    value = os.environ.get("OMP_NUM_THREADS", "")
    return int(value) if value.isdecimal() else 0
