"""Where a NaN arose: the module in the forward pass, or the operation in the backward pass, by name."""

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
_TRACE = "Error detected in"  # how the warning starts in which torch says where the operation was called


@contextmanager
def nan_source_reported(model: nn.Module, place: str) -> Iterator[None]:
    """Inside, the first number that is infinite or NaN raises TrainingError with what it comes from. Slow.

    Forward, every module's output is looked at; backward, torch's anomaly mode watches every operation. `place`: which
    step this is, for the message.
    """

    def watch(name: str) -> Callable[[nn.Module, object, object], None]:
        def look(module: nn.Module, inputs: object, output: object) -> None:
            found = output if isinstance(output, tuple) else (output,)
            if any(isinstance(tensor, Tensor) and not torch.isfinite(tensor).all() for tensor in found):
                raise TrainingError(
                    f"In the forward pass, {name} ({type(module).__name__}) was the first to give a number that is "
                    f"infinite or NaN, {place}. If its input was fine, its weights are too large: lower "
                    "optim.learning_rate."
                )

        return look

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
                    f"In the backward pass, {operation[1]}{call} was the first to give a gradient that is NaN, "
                    f"{place}. Lower optim.learning_rate, or clip the gradient with optim.clip_norm."
                ) from error
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _traces() -> Iterator[list[str]]:
    """What anomaly mode warns of inside: where the operation that failed was called. Other warnings go their way."""
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
