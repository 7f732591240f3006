"""Long short-term memory in its common form: three gates, no peepholes."""

from __future__ import annotations

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from captioner.nn.cells.cell import Cell, Hidden, init_orthogonal_blocks
from captioner.nn.layers.step_linear import StepLinear


class LSTMCell(Cell):
    """Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000.

    i, f, o = σ(…), g = tanh(…), each of inputs + Whh·h; c' = f∘c + i∘g; h' = o∘tanh(c').

    The columns are in the order i, f, g, o. The bias of the forget gate is initialized to 1, or with
    `forget_bias=False` to 0, which Jozefowicz et al. (2015) find much worse.
    """

    gates = 4
    states = 2
    gate_names = ("forget_gate", "input_gate", "output_gate")

    def __init__(self, hidden_dim: int, *, forget_bias: bool = True) -> None:
        super().__init__()
        self.hidden_dim = hidden_dim
        self.forget_gate_block = 1 if forget_bias else None
        self.recurrent = StepLinear(hidden_dim, 4 * hidden_dim, bias=False)
        init_orthogonal_blocks(self.recurrent.weight, hidden_dim)

    def step(self, inputs: Float[Tensor, "N G"], hidden: Hidden) -> Hidden:
        """inputs: (N, 4H); hidden: (h, c)."""
        h, c = hidden
        i, f, g, o = (inputs + self.recurrent(h)).chunk(4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        return h, c


lstm_forget_bias_0 = partial(LSTMCell, forget_bias=False)
