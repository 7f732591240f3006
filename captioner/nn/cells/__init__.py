"""Recurrent cells: how the hidden state changes from one time step to the next.

A cell is only the recurrence. Everything that enters it (words, image, attention) arrives as one tensor `inputs`, the
sum of its terms already multiplied by their weights, with one block of H columns per gate. So products that do not
depend on the previous state are computed once for all steps, and every injection works with every cell.

`captioner.config.CELLS` names the cells, docs/family.md lists their papers, and docs/extending.md shows how to add one.
"""

from captioner.nn.cells.build_cell import build_cell
from captioner.nn.cells.cell import Cell, Hidden, cells_of, init_input_bias
from captioner.nn.cells.gru import GRUCell
from captioner.nn.cells.lstm import LSTMCell
from captioner.nn.cells.lstm_variants import LSTMVariantCell
from captioner.nn.cells.mutations import MUT1Cell, MUT2Cell, MUT3Cell
from captioner.nn.cells.rnn import RNNCell

__all__ = [
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
    "cells_of",
    "init_input_bias",
]
