"""What the decoders ask of a cell, and how its weights start."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

Hidden = tuple[Tensor, ...]
"""What a cell carries, each (N, H); the first is h, the output."""


@runtime_checkable
class Cell(Protocol):
    """A recurrence.

    gates: blocks of H columns in `inputs`; states: tensors it carries, the first is h; forget_gate_block: the block of
    columns whose bias starts at 1, so that what is remembered stays remembered (Jozefowicz et al. 2015), or None.
    """

    gates: int
    states: int
    hidden_dim: int
    forget_gate_block: int | None

    def step(self, inputs: Tensor, hidden: Hidden) -> Hidden:
        """`inputs`: (N, gates·H); `hidden`: before the step. Returns it after the step."""
        ...

    def modules(self) -> Iterator[nn.Module]:
        """As `nn.Module.modules`."""
        ...


def init_orthogonal_blocks(weight: Tensor, hidden_dim: int) -> None:
    """Each gate's (H, H) block starts orthogonal: gradients neither explode nor vanish at the start."""
    for block in torch.split(weight.data, hidden_dim):
        nn.init.orthogonal_(block)


def init_input_bias(bias: Tensor, cell: Cell) -> None:
    """Set the bias that enters a cell at the start of training: zero, and one where `forget_gate_block` says."""
    with torch.no_grad():
        bias.zero_()
        if cell.forget_gate_block is not None:
            bias[cell.forget_gate_block * cell.hidden_dim : (cell.forget_gate_block + 1) * cell.hidden_dim] = 1.0
