"""The LSTM of self-critical sequence training, whose candidate is a maximum of two (Rennie et al. 2017, section 2).

    i, f, o = σ(…),   g = max(g_1, g_2)            each of inputs + W·h; Goodfellow et al. 2013: maxout
    c' = f∘c + i∘g,   h' = o∘tanh(c')

The paper writes c_t = i_t∘φ(W_zx x_t + W_zh h_{t−1} + b_z) + f_t∘c_{t−1} with the maxout non-linearity φ of two units.
There is no tanh around g, so the memory is unbounded.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from captioner.nn.cells.cell import Cell, Hidden, init_orthogonal_blocks
from captioner.nn.layers.step_linear import StepLinear


class MaxoutLSTMCell(Cell):
    """An LSTM with g = max(g_1, g_2). The columns are in the order i, f, o, g_1, g_2."""

    gates = 5
    states = 2
    forget_gate_block = 1
    gate_names = ("input_gate", "forget_gate", "output_gate")

    def __init__(self, hidden_dim: int) -> None:
        super().__init__()
        self.hidden_dim = hidden_dim
        self.recurrent = StepLinear(hidden_dim, 5 * hidden_dim, bias=False)
        init_orthogonal_blocks(self.recurrent.weight, hidden_dim)

    def step(self, inputs: Float[Tensor, "N G"], hidden: Hidden) -> Hidden:
        """inputs: (N, 5H); hidden: (h, c)."""
        h, c = hidden
        i, f, o, first, second = (inputs + self.recurrent(h)).chunk(5, dim=1)
        i, f, o = torch.sigmoid(i), torch.sigmoid(f), torch.sigmoid(o)
        c = f * c + i * torch.maximum(first, second)
        return o * torch.tanh(c), c
