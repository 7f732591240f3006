"""How far gradients reach back through time, and the recurrent matrices on which this depends.

For a loss at step T, the chain rule gives (Bengio, Simard & Frasconi 1994; Pascanu, Mikolov & Bengio 2013, eq. 5)

    ∂loss_T/∂s_t = (∂s_T/∂s_{T−1} · … · ∂s_{t+1}/∂s_t)ᵀ ∂loss_T/∂s_T

with s the state of the cells (h; for the LSTM h and c). In a vanilla RNN each factor is diag(1 − h²) Whh: if the
largest singular value of Whh is below 1 the product vanishes, and it can explode only if it is above 1.
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

    Each stream reads its first T tokens from the zero state; the loss is −log p of its last token. The norm is over the
    states of all layers; at distance 0 over the output of the top layer, on which alone the loss depends. Exact, by
    autograd; the model is set to eval mode and its parameters get no gradient.
    """
    model.eval()
    hidden = model.initial(len(tokens))
    states: list[tuple[Tensor, ...]] = []  # the input state of each step after the first
    top = model.embedding.weight  # replaced by the first step's output
    for t, read in enumerate(tokens[:, :-1].unbind(dim=1)):
        if t:
            # A copy: ∂/∂c must not include the path through h, which was computed from the same c.
            hidden = tuple(state.clone() for state in hidden)
            states.append(hidden)
        top, hidden = model.stack.step(model.stack.project(model.embedding(read)), hidden)
    loss = nn.functional.cross_entropy(model.output(top), tokens[:, -1], reduction="sum")  # streams are independent
    at_loss, *earlier = torch.autograd.grad(loss, [top, *(state for step in states for state in step)])
    norms = [at_loss.norm(dim=1)]
    for step in reversed(range(len(states))):
        parts = earlier[step * len(hidden) : (step + 1) * len(hidden)]
        norms.append(torch.cat(parts, dim=1).norm(dim=1))
    return torch.stack(norms, dim=1)


def spectral_radius(matrix: Float[Tensor, "H H"]) -> float:
    """The largest absolute value of the eigenvalues."""
    return float(torch.linalg.eigvals(matrix.detach().float()).abs().max())


def spectral_norm(matrix: Float[Tensor, "H H"]) -> float:
    """The largest singular value: the most by which the matrix can scale the norm of a vector."""
    return float(torch.linalg.matrix_norm(matrix.detach().float(), ord=2))


def recurrent_matrices(model: nn.Module) -> list[Tensor]:
    """The matrices that multiply h in each cell, (H, H) for each gate, in the order of the layers."""
    return [
        block
        for cell in cells_of(model)
        for layer in cell.modules()
        if isinstance(layer, StepLinear) and layer.in_features == cell.hidden_dim
        for block in torch.split(layer.weight.detach(), cell.hidden_dim)
    ]


@dataclass(frozen=True)
class TrainingPoint:
    """The state of training after one step; spectral_radius: the largest of the recurrent matrices."""

    step: int
    loss: float  # nats per token
    gradient_norm: float  # before clipping
    spectral_radius: float


def record_training(run: LanguageRun, steps: int, every: int = 1) -> list[TrainingPoint]:
    """Train a prepared run for `steps` steps, and record every `every`-th step and the last.

    Stops when the loss or the gradient is not finite; the spectral radius of that step is NaN. Writes no files.
    """
    points: list[TrainingPoint] = []
    while run.progress.step < steps:
        for inputs, targets in windows_of_epoch(run):
            losses = train_step(run, inputs, targets)
            diverged = not math.isfinite(losses["loss"]) or not math.isfinite(losses["gradient_norm"])
            if diverged or run.progress.step % every == 0 or run.progress.step == steps:
                radius = math.nan if diverged else max(map(spectral_radius, recurrent_matrices(run.model)))
                points.append(TrainingPoint(run.progress.step, losses["loss"], losses["gradient_norm"], radius))
            if diverged:
                return points
            if run.progress.step >= steps:
                break
        else:
            run.progress.epoch, run.progress.batch = run.progress.epoch + 1, 0
    return points
