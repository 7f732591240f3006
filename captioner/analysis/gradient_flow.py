"""How far a gradient travels back through time, and what becomes of the recurrent matrix that carries it.

For a loss at step T, the chain rule gives (Bengio, Simard & Frasconi 1994; Pascanu, Mikolov & Bengio 2013, eq. 5)

    ∂loss_T/∂s_t = (∂s_T/∂s_{T−1} · … · ∂s_{t+1}/∂s_t)ᵀ ∂loss_T/∂s_T

with s all that the cells carry (h; in the LSTM h and c). In a vanilla RNN each factor is diag(1 − h²) Whh: where
the largest singular value of Whh stays below 1 the product vanishes, and it can only explode where it is above 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from captioner.nn.cells import cells_of
from captioner.nn.decoders.language_model import LanguageModel
from captioner.nn.layers.step_linear import StepLinear
from captioner.training.language_model.language_model_run import LanguageRun
from captioner.training.language_model.train_language_model import train_step, windows_of_epoch


def gradient_norms(model: LanguageModel, tokens: Int[Tensor, "B T1"]) -> Float[Tensor, "B T"]:
    """‖∂loss/∂s‖₂ at distance 0 … T−1 before the loss: row b, column d is the state after step T−d.

    Each stream reads its first T tokens from the zero state; the loss is −log p of its last token alone. The norm is
    over everything the layers carry; at distance 0 that is the top layer's output, which is all that the loss sees.
    Exact, by autograd; the model is put in eval mode and its weights get no gradient.
    """
    model.eval()
    hidden = model.initial(len(tokens))
    states: list[tuple[Tensor, ...]] = []  # what enters each step after the first
    top = model.embedding.weight  # replaced by the first step's output
    for t, read in enumerate(tokens[:, :-1].unbind(dim=1)):
        if t:
            # A copy of its own: ∂/∂c must not run through h, which was made from the same c.
            hidden = tuple(state.clone() for state in hidden)
            states.append(hidden)
        top, hidden = model.stack.step(model.stack.project(model.embedding(read)), hidden)
    loss = nn.functional.cross_entropy(model.output(top), tokens[:, -1], reduction="sum")  # streams do not mix
    at_loss, *earlier = torch.autograd.grad(loss, [top, *(state for step in states for state in step)])
    norms = [at_loss.norm(dim=1)]
    for step in reversed(range(len(states))):
        parts = earlier[step * len(hidden) : (step + 1) * len(hidden)]
        norms.append(torch.cat(parts, dim=1).norm(dim=1))
    return torch.stack(norms, dim=1)


def spectral_radius(matrix: Float[Tensor, "H H"]) -> float:
    """The largest absolute value among the eigenvalues."""
    return float(torch.linalg.eigvals(matrix.detach().float()).abs().max())


def spectral_norm(matrix: Float[Tensor, "H H"]) -> float:
    """The largest singular value: how much the matrix can lengthen a vector."""
    return float(torch.linalg.matrix_norm(matrix.detach().float(), ord=2))


def recurrent_matrices(model: nn.Module) -> list[Tensor]:
    """What multiplies h in every cell, (H, H) for each of its gates, in the order of the layers."""
    return [
        block
        for cell in cells_of(model)
        for layer in cell.modules()
        if isinstance(layer, StepLinear) and layer.in_features == cell.hidden_dim
        for block in torch.split(layer.weight.detach(), cell.hidden_dim)
    ]


@dataclass(frozen=True)
class Watched:
    """One step of a training that was watched; of the recurrent matrices, the largest."""

    step: int
    loss: float  # nats a token
    gradient_norm: float  # before clipping
    spectral_radius: float


def watch_training(run: LanguageRun, steps: int, every: int = 1) -> list[Watched]:
    """Train a prepared run for so many steps, and note how it fares at each `every`-th.

    Stops where loss or gradient are no numbers any more, which is noted as the last step. Nothing is written.
    """
    watched: list[Watched] = []
    while run.progress.step < steps:
        for inputs, targets in windows_of_epoch(run):
            figures = train_step(run, inputs, targets)
            lost = not math.isfinite(figures["loss"]) or not math.isfinite(figures["gradient_norm"])
            if lost or run.progress.step % every == 0 or run.progress.step == steps:
                radius = math.nan if lost else max(map(spectral_radius, recurrent_matrices(run.model)))
                watched.append(Watched(run.progress.step, figures["loss"], figures["gradient_norm"], radius))
            if lost:
                return watched
            if run.progress.step >= steps:
                break
        else:
            run.progress.epoch, run.progress.batch = run.progress.epoch + 1, 0
    return watched
