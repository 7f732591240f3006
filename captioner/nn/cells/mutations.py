"""MUT1, MUT2 and MUT3: the three cells that an evolutionary search found to be at least as good as the GRU.

Jozefowicz, Zaremba & Sutskever 2015, "An empirical exploration of recurrent network architectures", section 4. In the
paper x is the word's embedding, which has as many numbers as h, so it can enter without a weight. Here every block of
columns has a linear map of its own from the embedding, and that map of it is what enters:

    MUT1   z = σ(x_z)              r = σ(x_r + W_r·h)   h' = z∘tanh(W_h·(r∘h) + tanh(x_h) + b) + (1 − z)∘h
    MUT2   z = σ(x_z + W_z·h)      r = σ(x_r + W_r·h)   h' = z∘tanh(W_h·(r∘h) + x_h)           + (1 − z)∘h
    MUT3   z = σ(x_z + W_z·tanh h) r = σ(x_r + W_r·h)   h' = z∘tanh(W_h·(r∘h) + x_h)           + (1 − z)∘h

Columns are in the order z, r, h.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from captioner.nn.cells.protocol import Hidden, init_orthogonal_blocks
from captioner.nn.layers.step_linear import StepLinear


def _square(hidden_dim: int) -> StepLinear:
    layer = StepLinear(hidden_dim, hidden_dim, bias=False)
    init_orthogonal_blocks(layer.weight, hidden_dim)
    return layer


class MUT1Cell(nn.Module):
    """The update gate sees the input only; the candidate sees tanh of it."""

    gates = 3
    states = 1
    forget_gate_block: int | None = None

    def __init__(self, hidden_dim: int) -> None:
        super().__init__()
        self.hidden_dim = hidden_dim
        self.reset, self.candidate = _square(hidden_dim), _square(hidden_dim)
        self.candidate_bias = nn.Parameter(torch.zeros(hidden_dim))

    def step(self, inputs: Float[Tensor, "N G"], hidden: Hidden) -> Hidden:
        """One word: inputs (N, 3H), hidden (h,)."""
        (h,) = hidden
        x_z, x_r, x_h = inputs.chunk(3, dim=1)
        z = torch.sigmoid(x_z)
        r = torch.sigmoid(x_r + self.reset(h))
        new = torch.tanh(self.candidate(r * h) + torch.tanh(x_h) + self.candidate_bias)
        return (z * new + (1 - z) * h,)


class MUT2Cell(nn.Module):
    """The GRU, resetting before the product."""

    gates = 3
    states = 1
    forget_gate_block: int | None = None

    def __init__(self, hidden_dim: int) -> None:
        super().__init__()
        self.hidden_dim = hidden_dim
        self.update, self.reset, self.candidate = _square(hidden_dim), _square(hidden_dim), _square(hidden_dim)

    def step(self, inputs: Float[Tensor, "N G"], hidden: Hidden) -> Hidden:
        """One word: inputs (N, 3H), hidden (h,)."""
        (h,) = hidden
        x_z, x_r, x_h = inputs.chunk(3, dim=1)
        z = torch.sigmoid(x_z + self.update(h))
        r = torch.sigmoid(x_r + self.reset(h))
        new = torch.tanh(self.candidate(r * h) + x_h)
        return (z * new + (1 - z) * h,)


class MUT3Cell(MUT2Cell):
    """As MUT2, but the update gate sees tanh of the state."""

    def step(self, inputs: Float[Tensor, "N G"], hidden: Hidden) -> Hidden:
        """One word: inputs (N, 3H), hidden (h,)."""
        (h,) = hidden
        x_z, x_r, x_h = inputs.chunk(3, dim=1)
        z = torch.sigmoid(x_z + self.update(torch.tanh(h)))
        r = torch.sigmoid(x_r + self.reset(h))
        new = torch.tanh(self.candidate(r * h) + x_h)
        return (z * new + (1 - z) * h,)
