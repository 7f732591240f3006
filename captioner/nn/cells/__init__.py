"""Recurrent cells: how the hidden state moves from one word to the next.

A cell is the recurrence alone. What enters from outside (words, image, attention) arrives as one tensor `inputs`,
already multiplied by its weights and summed, with a block of H columns a gate. So products that do not depend on the
previous state are done once for all steps, and any injection works with any cell.

To add a cell: a class with what `Cell` asks for, a line in `CELLS`, its name in `captioner.config.CELLS`.
"""

from captioner.nn.cells.gru import GRUCell
from captioner.nn.cells.lstm import LSTMCell
from captioner.nn.cells.lstm_variants import LSTMVariantCell
from captioner.nn.cells.mutations import MUT1Cell, MUT2Cell, MUT3Cell
from captioner.nn.cells.protocol import Cell, Hidden, init_input_bias
from captioner.nn.cells.registry import CELLS, build_cell
from captioner.nn.cells.rnn import RNNCell

__all__ = [
    "CELLS",
    "Cell",
    "GRUCell",
    "Hidden",
    "LSTMCell",
    "LSTMVariantCell",
    "MUT1Cell",
    "MUT2Cell",
    "MUT3Cell",
    "RNNCell",
    "build_cell",
    "init_input_bias",
]
