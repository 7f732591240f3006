"""Finds where a NaN arises: the module in the forward pass, or the operation in the backward pass."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

import torch
from torch import Tensor, nn

from captioner.errors import TrainingError

_OPERATION = re.compile(r"Function '(\w+?)(?:Backward\d*)?' returned nan values")
_CALL = re.compile(r'File "[^"]*?(captioner/[^"]+)", line (\d+)')
_TRACE = "Error detected in"  # the start of torch's warning with the traceback of the operation


@contextmanager
def nan_source_reported(model: nn.Module, place: str) -> Iterator[None]:
    """A context in which the first infinite value or NaN raises TrainingError with the name of its source. Slow.

    In the forward pass every module's output is checked; in the backward pass torch's anomaly mode checks every
    operation. place: the step, for the message.
    """

    def watch(name: str) -> Callable[[nn.Module, object, object], None]:
        def check(module: nn.Module, inputs: object, output: object) -> None:
            outputs = output if isinstance(output, tuple) else (output,)
            if any(isinstance(tensor, Tensor) and not torch.isfinite(tensor).all() for tensor in outputs):
                raise TrainingError(
                    f"In the forward pass, {name} ({type(module).__name__}) was the first to return an infinite "
                    f"value or NaN, {place}. If its input was fine, its weights are too large: lower "
                    "optim.learning_rate."
                )

        return check

    handles = [module.register_forward_hook(watch(name)) for name, module in model.named_modules() if name]
    try:
        with _traces() as traces, torch.autograd.set_detect_anomaly(True):
            try:
                yield
            except RuntimeError as error:
                operation = _OPERATION.search(str(error))
                if operation is None:
                    raise
                calls = _CALL.findall("".join(traces))
                call = f", called in {calls[-1][0]}, line {calls[-1][1]}," if calls else ""
                raise TrainingError(
                    f"In the backward pass, {operation[1]}{call} was the first to return a NaN gradient, "
                    f"{place}. Lower optim.learning_rate, or clip the gradient with optim.clip_norm."
                ) from error
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _traces() -> Iterator[list[str]]:
    """A context that collects the tracebacks of anomaly mode's warnings; other warnings are shown as usual."""
    traces: list[str] = []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Anomaly Detection has been enabled")
        warnings.filterwarnings("always", message=_TRACE)
        show = warnings.showwarning

        def keep_traces(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if str(message).startswith(_TRACE):
                traces.append(str(message))
            else:
                show(message, category, filename, lineno, file, line)

        warnings.showwarning = keep_traces
        yield traces
