"""Long short-term memory as it is mostly used: three gates, no peepholes."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from captioner.nn.cells.protocol import Hidden, init_orthogonal_blocks
from captioner.nn.layers.step_linear import StepLinear


class LSTMCell(nn.Module):
    """Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000.

    i, f, o = σ(…), g = tanh(…), each of inputs + Whh·h; c' = f∘c + i∘g; h' = o∘tanh(c').
    Columns are in the order i, f, g, o. The forget gate's bias starts at 1, or with `forget_bias=False` at 0, where
    Jozefowicz et al. (2015) find it to be much worse.
    """

    gates = 4
    states = 2

    def __init__(self, hidden_dim: int, *, forget_bias: bool = True) -> None:
        super().__init__()
        self.hidden_dim = hidden_dim
        self.forget_gate_block: int | None = 1 if forget_bias else None
        self.recurrent = StepLinear(hidden_dim, 4 * hidden_dim, bias=False)
        init_orthogonal_blocks(self.recurrent.weight, hidden_dim)

    def step(self, inputs: Float[Tensor, "N G"], hidden: Hidden) -> Hidden:
        """One word: inputs (N, 4H), hidden (h, c)."""
        h, c = hidden
        i, f, g, o = (inputs + self.recurrent(h)).chunk(4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        return h, c
