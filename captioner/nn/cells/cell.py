"""The contract of every recurrent cell, and the initialization of its weights."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

Hidden = tuple[Tensor, ...]
"""The state of a cell, or of several layers: tensors (N, H). The first of each cell is h, its output."""


class Cell(nn.Module, ABC):
    """A recurrence, constructed with the number of hidden units H.

    Attributes:
        gates: the number of blocks of H columns in `inputs`.
        states: the number of tensors in its state; the first is h, the second of an LSTM is its memory.
        hidden_dim: H.
        forget_gate_block: the block of columns whose bias is initialized to 1, so that the memory lasts (Jozefowicz et
            al. 2015); None for no block.
        gate_names: the names of its gates, in the order in which `step` calls `torch.sigmoid`; () where it has none.
    """

    gates: int
    states: int
    hidden_dim: int
    forget_gate_block: int | None = None
    gate_names: tuple[str, ...] = ()

    @abstractmethod
    def step(self, inputs: Tensor, hidden: Hidden) -> Hidden:
        """One time step. inputs: (N, gates·H), the summed input to the gates; hidden: the state before. Returns the
        state after."""


def cells_of(module: nn.Module) -> list[Cell]:
    """The recurrent cells inside a module, layer by layer."""
    return [part for part in module.modules() if isinstance(part, Cell)]


def init_orthogonal_blocks(weight: Tensor, hidden_dim: int) -> None:
    """Initialize each gate's (H, H) block as an orthogonal matrix, which keeps the norm of early gradients."""
    for block in torch.split(weight.data, hidden_dim):
        nn.init.orthogonal_(block)


def init_input_bias(bias: Tensor, cell: Cell) -> None:
    """Initialize the bias of a cell's inputs: 1 in `forget_gate_block`, otherwise 0."""
    with torch.no_grad():
        bias.zero_()
        if cell.forget_gate_block is not None:
            bias[cell.forget_gate_block * cell.hidden_dim : (cell.forget_gate_block + 1) * cell.hidden_dim] = 1.0
