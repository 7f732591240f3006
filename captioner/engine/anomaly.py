"""Where a NaN arose: the module in the forward pass, or the operation in the backward pass, by name."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from captioner.errors import TrainingError

_OPERATION = re.compile(r"Function '(\w+?)(?:Backward\d*)?' returned nan values")
_PLACE = re.compile(r'File "[^"]*?(captioner/[^"]+)", line (\d+)')


@contextmanager
def anomalies_named(model: nn.Module) -> Iterator[None]:
    """Inside, the first number that is infinite or NaN raises TrainingError with the place it comes from. Slow.

    Forward, every module's output is looked at; backward, torch's anomaly mode watches every operation.
    """

    def watch(name: str) -> object:
        def look(module: nn.Module, inputs: object, output: object) -> None:
            found = output if isinstance(output, tuple) else (output,)
            if any(isinstance(tensor, Tensor) and not torch.isfinite(tensor).all() for tensor in found):
                raise TrainingError(
                    f"In the forward pass, {name} ({type(module).__name__}) was the first to give a number that is "
                    "infinite or NaN. If its input was fine, its weights are too large: lower optim.learning_rate."
                )

        return look

    handles = [module.register_forward_hook(watch(name)) for name, module in model.named_modules() if name]
    try:
        with warnings.catch_warnings(record=True) as told, torch.autograd.set_detect_anomaly(True):
            warnings.simplefilter("always")
            try:
                yield
            except RuntimeError as error:
                operation = _OPERATION.search(str(error))
                if operation is None:
                    raise
                places = _PLACE.findall("".join(str(warning.message) for warning in told))
                place = f", called in {places[-1][0]}, line {places[-1][1]}," if places else ""
                raise TrainingError(
                    f"In the backward pass, {operation[1]}{place} was the first to give a gradient that is NaN. "
                    "Lower optim.learning_rate, or clip the gradient with optim.clip_norm."
                ) from error
    finally:
        for handle in handles:
            handle.remove()
