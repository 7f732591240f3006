"""Name → cell, by the names of `model.cell`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from captioner.errors import choose
from captioner.nn.cells.gru import GRUCell
from captioner.nn.cells.lstm import LSTMCell
from captioner.nn.cells.lstm_variants import LSTMVariantCell
from captioner.nn.cells.mutations import MUT1Cell, MUT2Cell, MUT3Cell
from captioner.nn.cells.rnn import RNNCell

CELLS: dict[str, Callable[[int], nn.Module]] = {
    "rnn": RNNCell,
    "rnn_relu": partial(RNNCell, relu=True),
    "lstm": LSTMCell,
    "lstm_forget_bias_0": partial(LSTMCell, forget_bias=False),
    "lstm_peephole": LSTMVariantCell,
    "lstm_no_input_gate": partial(LSTMVariantCell, input_gate=False),
    "lstm_no_forget_gate": partial(LSTMVariantCell, forget_gate=False),
    "lstm_no_output_gate": partial(LSTMVariantCell, output_gate=False),
    "lstm_no_input_activation": partial(LSTMVariantCell, input_activation=False),
    "lstm_no_output_activation": partial(LSTMVariantCell, output_activation=False),
    "lstm_coupled_gates": partial(LSTMVariantCell, coupled=True),
    "lstm_full_gate_recurrence": partial(LSTMVariantCell, gate_recurrence=True),
    "gru": GRUCell,
    "mut1": MUT1Cell,
    "mut2": MUT2Cell,
    "mut3": MUT3Cell,
}


def build_cell(name: str, hidden_dim: int) -> nn.Module:
    """The cell called `name`, a `Cell` (ConfigError where there is none)."""
    return CELLS[choose("model.cell", name, CELLS)](hidden_dim)
