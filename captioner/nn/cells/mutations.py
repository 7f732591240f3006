"""MUT1, MUT2 and MUT3: cells that an evolutionary search found to be at least as good as the GRU.

Jozefowicz, Zaremba & Sutskever 2015, "An empirical exploration of recurrent network architectures", section 4. In the
paper x is the word embedding, whose dimension is that of h, so x can be added without a weight. Here each block of
columns has its own linear map of the embedding, and x_z, x_r and x_h are these maps:

    MUT1   z = σ(x_z)              r = σ(x_r + W_r·h)   h' = z∘tanh(W_h·(r∘h) + tanh(x_h) + b) + (1 − z)∘h
    MUT2   z = σ(x_z + W_z·h)      r = σ(x_r + W_r·h)   h' = z∘tanh(W_h·(r∘h) + x_h)           + (1 − z)∘h
    MUT3   z = σ(x_z + W_z·tanh h) r = σ(x_r + W_r·h)   h' = z∘tanh(W_h·(r∘h) + x_h)           + (1 − z)∘h

The columns are in the order z, r, h.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from captioner.nn.cells.cell import Cell, Hidden, init_orthogonal_blocks
from captioner.nn.layers.step_linear import StepLinear


def _square(hidden_dim: int) -> StepLinear:
    layer = StepLinear(hidden_dim, hidden_dim, bias=False)
    init_orthogonal_blocks(layer.weight, hidden_dim)
    return layer


class MUT1Cell(Cell):
    """The update gate reads only the input; the candidate reads tanh of the input."""

    gates = 3
    states = 1
    gate_names = ("update_gate", "reset_gate")

    def __init__(self, hidden_dim: int) -> None:
        super().__init__()
        self.hidden_dim = hidden_dim
        self.reset, self.candidate = _square(hidden_dim), _square(hidden_dim)
        self.candidate_bias = nn.Parameter(torch.zeros(hidden_dim))

    def step(self, inputs: Float[Tensor, "N G"], hidden: Hidden) -> Hidden:
        """inputs: (N, 3H); hidden: (h,)."""
        (h,) = hidden
        x_z, x_r, x_h = inputs.chunk(3, dim=1)
        z = torch.sigmoid(x_z)
        r = torch.sigmoid(x_r + self.reset(h))
        new = torch.tanh(self.candidate(r * h) + torch.tanh(x_h) + self.candidate_bias)
        return (z * new + (1 - z) * h,)


class MUT2Cell(Cell):
    """A GRU whose reset gate is applied before the product."""

    gates = 3
    states = 1
    gate_names = ("update_gate", "reset_gate")

    def __init__(self, hidden_dim: int) -> None:
        super().__init__()
        self.hidden_dim = hidden_dim
        self.update, self.reset, self.candidate = _square(hidden_dim), _square(hidden_dim), _square(hidden_dim)

    def step(self, inputs: Float[Tensor, "N G"], hidden: Hidden) -> Hidden:
        """inputs: (N, 3H); hidden: (h,)."""
        (h,) = hidden
        x_z, x_r, x_h = inputs.chunk(3, dim=1)
        z = torch.sigmoid(x_z + self.update(h))
        r = torch.sigmoid(x_r + self.reset(h))
        new = torch.tanh(self.candidate(r * h) + x_h)
        return (z * new + (1 - z) * h,)


class MUT3Cell(MUT2Cell):
    """MUT2 with an update gate that reads tanh of the state."""

    def step(self, inputs: Float[Tensor, "N G"], hidden: Hidden) -> Hidden:
        """inputs: (N, 3H); hidden: (h,)."""
        (h,) = hidden
        x_z, x_r, x_h = inputs.chunk(3, dim=1)
        z = torch.sigmoid(x_z + self.update(torch.tanh(h)))
        r = torch.sigmoid(x_r + self.reset(h))
        new = torch.tanh(self.candidate(r * h) + x_h)
        return (z * new + (1 - z) * h,)
