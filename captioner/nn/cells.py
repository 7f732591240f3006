"""Recurrent cells: how the hidden state moves from one word to the next.

A cell is the recurrence alone. What enters from outside (words, image, attention) arrives as one
tensor `inputs`, already multiplied by its weights and summed, with a block of H columns a gate. So
products that do not depend on the previous state are done once for all steps, and any injection
works with any cell.

Every cell has `gates` (blocks of columns in `inputs`), `states` (tensors it carries; the first is h,
its output) and `step`.
"""

from __future__ import annotations

from typing import ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from captioner.errors import choose
from captioner.nn.step_linear import StepLinear

Hidden = tuple[Tensor, ...]
"""What a cell carries, each (N, H); the first is h, the output."""


@runtime_checkable
class Cell(Protocol):
    """What the decoders ask of a cell."""

    gates: int
    states: int
    hidden_dim: int

    def step(self, inputs: Tensor, hidden: Hidden) -> Hidden:
        """`inputs`: (N, gates·H); `hidden`: before the step. Returns it after the step."""
        ...


class RNNCell(nn.Module):
    """The vanilla recurrence, h = tanh(inputs + Whh·h): Elman 1990; CS231n lecture 10."""

    gates: ClassVar[int] = 1
    states: ClassVar[int] = 1

    def __init__(self, hidden_dim: int) -> None:
        super().__init__()
        self.hidden_dim = hidden_dim
        self.recurrent = StepLinear(hidden_dim, hidden_dim, bias=False)
        nn.init.orthogonal_(self.recurrent.weight)

    def step(self, inputs: Float[Tensor, "N H"], hidden: Hidden) -> Hidden:
        """One word: inputs (N, H), hidden (h,)."""
        (h,) = hidden
        return (torch.tanh(inputs + self.recurrent(h)),)


class LSTMCell(nn.Module):
    """Long short-term memory (Hochreiter & Schmidhuber 1997; with forget gate, Gers et al. 2000).

    i, f, o = σ(…), g = tanh(…), each of inputs + Whh·h; c' = f∘c + i∘g; h' = o∘tanh(c').
    Columns are in the order i, f, g, o. The decoder starts the forget gate's bias at 1
    (Jozefowicz et al. 2015).
    """

    gates: ClassVar[int] = 4
    states: ClassVar[int] = 2

    def __init__(self, hidden_dim: int) -> None:
        super().__init__()
        self.hidden_dim = hidden_dim
        self.recurrent = StepLinear(hidden_dim, 4 * hidden_dim, bias=False)
        _orthogonal_blocks(self.recurrent.weight, hidden_dim)

    def step(self, inputs: Float[Tensor, "N G"], hidden: Hidden) -> Hidden:
        """One word: inputs (N, 4H), hidden (h, c)."""
        h, c = hidden
        i, f, g, o = (inputs + self.recurrent(h)).chunk(4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        return h, c


class GRUCell(nn.Module):
    """Gated recurrent unit (Cho et al. 2014), the reset gate applied after the product.

    r, z = σ(inputs + Whh·h); n = tanh(inputs_n + r∘(Whn·h + b)); h' = (1 − z)∘n + z∘h.
    Columns are in the order r, z, n. Cho et al. reset before the product, Whn·(r∘h); this order
    is the one of cuDNN and of `torch.nn.GRU`.
    """

    gates: ClassVar[int] = 3
    states: ClassVar[int] = 1

    def __init__(self, hidden_dim: int) -> None:
        super().__init__()
        self.hidden_dim = hidden_dim
        self.recurrent = StepLinear(hidden_dim, 3 * hidden_dim, bias=False)
        self.candidate_bias = nn.Parameter(torch.zeros(hidden_dim))
        _orthogonal_blocks(self.recurrent.weight, hidden_dim)

    def step(self, inputs: Float[Tensor, "N G"], hidden: Hidden) -> Hidden:
        """One word: inputs (N, 3H), hidden (h,)."""
        (h,) = hidden
        input_r, input_z, input_n = inputs.chunk(3, dim=1)
        recurrent_r, recurrent_z, recurrent_n = self.recurrent(h).chunk(3, dim=1)
        r = torch.sigmoid(input_r + recurrent_r)
        z = torch.sigmoid(input_z + recurrent_z)
        n = torch.tanh(input_n + r * (recurrent_n + self.candidate_bias))
        return (n + z * (h - n),)


def _orthogonal_blocks(weight: Tensor, hidden_dim: int) -> None:
    """Each gate's (H, H) block starts orthogonal: gradients neither explode nor vanish at the start."""
    for block in torch.split(weight.data, hidden_dim):
        nn.init.orthogonal_(block)


CELLS: dict[str, type[RNNCell] | type[LSTMCell] | type[GRUCell]] = {"rnn": RNNCell, "lstm": LSTMCell, "gru": GRUCell}


def build_cell(name: str, hidden_dim: int) -> RNNCell | LSTMCell | GRUCell:
    """The cell called `name` (ConfigError where there is none)."""
    return CELLS[choose("model.cell", name, CELLS)](hidden_dim)


def start_input_bias(bias: Tensor, cell_name: str, hidden_dim: int) -> None:
    """Set the bias that enters a cell at the start of training: zero, and one for the LSTM's forget gate."""
    with torch.no_grad():
        bias.zero_()
        if cell_name == "lstm":
            bias[hidden_dim : 2 * hidden_dim] = 1.0
