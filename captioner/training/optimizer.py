"""The optimizer and its parameter groups, gradient clipping, and the learning-rate schedule."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from captioner.config import OptimConfig
from captioner.nn.model import CaptioningModel

_WRAPPED = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")


def build_optimizer(model: CaptioningModel, config: OptimConfig, encoder_starts: int = 0) -> torch.optim.Optimizer:
    """Adam, AdamW or SGD over the decoder and the trainable blocks of the encoder, which have their own learning rate.

    Every group has a `base_rate`, which the schedule multiplies. encoder_starts: the step at which the encoder becomes
    trainable; it then has a warm-up of its own.
    """
    groups: list[dict[str, Any]] = [
        {"params": list(model.decoder.parameters()), "base_rate": config.learning_rate},
        {
            "params": [parameter for parameter in model.encoder.parameters() if parameter.requires_grad],
            "base_rate": config.encoder_learning_rate,
            "starts": encoder_starts,
            "warmup_steps": config.warmup_steps,
        },
    ]
    return _build(groups, config)


def build_optimizer_of_one_rate(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """The optimizer of a model without an encoder: all parameters have the rate `learning_rate`."""
    return _build([{"params": list(model.parameters()), "base_rate": config.learning_rate}], config)


def _build(groups: list[dict[str, Any]], config: OptimConfig) -> torch.optim.Optimizer:
    nonempty = [{**group, "lr": group["base_rate"]} for group in groups if group["params"]]
    if config.name == "sgd":
        sgd = without_compiler(torch.optim.SGD)
        return sgd(nonempty, momentum=config.betas[0], weight_decay=config.weight_decay)
    kind = without_compiler({"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.name])
    return kind(nonempty, betas=config.betas, weight_decay=config.weight_decay, fused=True)


def without_compiler(kind: type[torch.optim.Optimizer]) -> Callable[..., torch.optim.Optimizer]:
    """A subclass of an optimizer that computes the same, and does not import torch.compile.

    PyTorch wraps these methods so that torch.compile leaves them out, and the wrappers import it: 2 seconds and 150 MB
    of a training, which compiles at most the decoder. Where a wrapper cannot be taken off, it stays.
    """
    methods = {name: inspect.unwrap(getattr(kind, name)) for name in _WRAPPED}
    return type(kind.__name__, (kind,), {**methods, "step": torch.no_grad()(inspect.unwrap(kind.step))})


def schedule_factor(config: OptimConfig, step: int, total_steps: int, steps_per_epoch: int) -> float:
    """The factor of the base learning rates at optimizer step `step` (the first is 0).

    A linear warm-up, and then 1, half a cosine down to 0 at `total_steps` (Loshchilov & Hutter 2017), or `step_factor`
    to a power that grows by 1 every `step_epochs` epochs.
    """
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    if config.schedule == "cosine":
        progress = (step - config.warmup_steps) / max(1, total_steps - config.warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    if config.schedule == "step":
        return float(config.step_factor ** (step // steps_per_epoch // config.step_epochs))
    return 1.0


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float, step: int) -> float:
    """Set every group's learning rate to its base rate times `factor`; returns that of the first group.

    A group that starts after step 0 has a linear warm-up of its own from its first step.
    """
    for group in optimizer.param_groups:
        group["lr"] = group["base_rate"] * factor
        if group.get("starts"):
            step_of_group = max(0, step - group["starts"] + 1)
            group["lr"] *= min(1.0, step_of_group / max(1, group["warmup_steps"]))
    return float(optimizer.param_groups[0]["lr"])


def clip_gradient(optimizer: torch.optim.Optimizer, clip_norm: float | None) -> Tensor:
    """Scale the gradient of all parameters to the norm `clip_norm` if it is longer; returns the norm before.

    Pascanu et al. 2013. None: no clipping.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return torch.nn.utils.clip_grad_norm_(parameters, float("inf") if clip_norm is None else clip_norm)
