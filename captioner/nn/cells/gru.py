"""The gated recurrent unit."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from captioner.nn.cells.cell import Cell, Hidden, init_orthogonal_blocks
from captioner.nn.layers.step_linear import StepLinear


class GRUCell(Cell):
    """Cho et al. 2014, with the reset gate applied after the product.

    r, z = σ(inputs + Whh·h); n = tanh(inputs_n + r∘(Whn·h + b)); h' = (1 − z)∘n + z∘h.

    The columns are in the order r, z, n. Cho et al. apply the reset gate before the product, Whn·(r∘h); this order is
    that of cuDNN and of `torch.nn.GRU`.
    """

    gates = 3
    states = 1
    gate_names = ("reset_gate", "update_gate")

    def __init__(self, hidden_dim: int) -> None:
        super().__init__()
        self.hidden_dim = hidden_dim
        self.recurrent = StepLinear(hidden_dim, 3 * hidden_dim, bias=False)
        self.candidate_bias = nn.Parameter(torch.zeros(hidden_dim))
        init_orthogonal_blocks(self.recurrent.weight, hidden_dim)

    def step(self, inputs: Float[Tensor, "N G"], hidden: Hidden) -> Hidden:
        """inputs: (N, 3H); hidden: (h,)."""
        (h,) = hidden
        input_r, input_z, input_n = inputs.chunk(3, dim=1)
        recurrent_r, recurrent_z, recurrent_n = self.recurrent(h).chunk(3, dim=1)
        r = torch.sigmoid(input_r + recurrent_r)
        z = torch.sigmoid(input_z + recurrent_z)
        n = torch.tanh(input_n + r * (recurrent_n + self.candidate_bias))
        return (n + z * (h - n),)
