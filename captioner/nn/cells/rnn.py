"""The vanilla RNN cell, with tanh or with ReLU."""

from __future__ import annotations

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from captioner.nn.cells.cell import Cell, Hidden, init_orthogonal_blocks
from captioner.nn.layers.step_linear import StepLinear


class RNNCell(Cell):
    """h' = f(inputs + Whh·h): Elman 1990; CS231n lecture 10 with f = tanh.

    With ReLU, Whh is initialized with the identity (Le, Jaitly & Hinton 2015).
    """

    gates = 1
    states = 1

    def __init__(self, hidden_dim: int, *, relu: bool = False) -> None:
        super().__init__()
        self.hidden_dim = hidden_dim
        self.recurrent = StepLinear(hidden_dim, hidden_dim, bias=False)
        self.activation = torch.relu if relu else torch.tanh
        if relu:
            nn.init.eye_(self.recurrent.weight)
        else:
            init_orthogonal_blocks(self.recurrent.weight, hidden_dim)

    def step(self, inputs: Float[Tensor, "N H"], hidden: Hidden) -> Hidden:
        """inputs: (N, H); hidden: (h,)."""
        (h,) = hidden
        return (self.activation(inputs + self.recurrent(h)),)


rnn_relu = partial(RNNCell, relu=True)
