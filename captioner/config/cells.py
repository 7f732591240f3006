"""The recurrent cells by name. Their code is imported when a cell is built, so that settings need no PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from captioner.registry import Registry

CELLS: Registry[Callable[[int], Any]] = Registry(
    "model.cell",
    "captioner.cells",
    {
        "rnn": "captioner.nn.cells.rnn:RNNCell",
        "rnn_relu": "captioner.nn.cells.rnn:rnn_relu",
        "lstm": "captioner.nn.cells.lstm:LSTMCell",
        "lstm_forget_bias_0": "captioner.nn.cells.lstm:lstm_forget_bias_0",
        "lstm_peephole": "captioner.nn.cells.lstm_variants:LSTMVariantCell",
        "lstm_no_input_gate": "captioner.nn.cells.lstm_variants:lstm_no_input_gate",
        "lstm_no_forget_gate": "captioner.nn.cells.lstm_variants:lstm_no_forget_gate",
        "lstm_no_output_gate": "captioner.nn.cells.lstm_variants:lstm_no_output_gate",
        "lstm_no_input_activation": "captioner.nn.cells.lstm_variants:lstm_no_input_activation",
        "lstm_no_output_activation": "captioner.nn.cells.lstm_variants:lstm_no_output_activation",
        "lstm_coupled_gates": "captioner.nn.cells.lstm_variants:lstm_coupled_gates",
        "lstm_full_gate_recurrence": "captioner.nn.cells.lstm_variants:lstm_full_gate_recurrence",
        "lstm_maxout": "captioner.nn.cells.lstm_maxout:MaxoutLSTMCell",
        "gru": "captioner.nn.cells.gru:GRUCell",
        "mut1": "captioner.nn.cells.mutations:MUT1Cell",
        "mut2": "captioner.nn.cells.mutations:MUT2Cell",
        "mut3": "captioner.nn.cells.mutations:MUT3Cell",
    },
)
"""Name → a function from the number of hidden units to a `captioner.nn.cells.Cell`."""
