"""The LSTM with peepholes, and its variants with one part removed or changed.

Greff, Srivastava, Koutník, Steunebrink & Schmidhuber 2017, "LSTM: A search space odyssey", section 2 and appendix A:

    z  = tanh(x_z + R_z·h)                         block input
    i  = σ(x_i + R_i·h + p_i∘c)                    input gate
    f  = σ(x_f + R_f·h + p_f∘c)                    forget gate
    c' = z∘i + c∘f                                 cell
    o  = σ(x_o + R_o·h + p_o∘c')                   output gate
    h' = o∘tanh(c')                                block output

The variants, by the paper's names: NIG i = 1; NFG f = 1; NOG o = 1; NIAF no tanh in z; NOAF no tanh in h'; CIFG
f = 1 − i; FGR the gates also read all gates of the previous step, + R'·(i, f, o). (NP, no peepholes, is `LSTMCell`.)
"""

from __future__ import annotations

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from captioner.nn.cells.cell import Cell, Hidden, init_orthogonal_blocks
from captioner.nn.layers.step_linear import StepLinear

_GATE_NAMES = {"i": "input_gate", "f": "forget_gate", "o": "output_gate"}


class LSTMVariantCell(Cell):
    """The vanilla LSTM of Greff et al.; each flag makes one of its variants.

    The columns are in the order i, f, z, o, without those of removed gates.
    """

    def __init__(
        self,
        hidden_dim: int,
        *,
        input_gate: bool = True,
        forget_gate: bool = True,
        output_gate: bool = True,
        coupled: bool = False,
        input_activation: bool = True,
        output_activation: bool = True,
        gate_recurrence: bool = False,
    ) -> None:
        super().__init__()
        self.hidden_dim = hidden_dim
        self.coupled = coupled
        self.input_activation, self.output_activation = input_activation, output_activation
        present = {"i": input_gate, "f": forget_gate and not coupled, "z": True, "o": output_gate}
        self.blocks = [symbol for symbol, is_present in present.items() if is_present]
        self.gate_symbols = [symbol for symbol in self.blocks if symbol != "z"]
        self.gate_names = tuple(_GATE_NAMES[symbol] for symbol in self.gate_symbols)
        self.gates = len(self.blocks)
        self.forget_gate_block = self.blocks.index("f") if "f" in self.blocks else None
        self.states = 2 + (len(self.gate_symbols) if gate_recurrence else 0)
        self.recurrent = StepLinear(hidden_dim, self.gates * hidden_dim, bias=False)
        self.peepholes = nn.Parameter(0.1 * torch.randn(len(self.gate_symbols), hidden_dim))
        init_orthogonal_blocks(self.recurrent.weight, hidden_dim)
        self.gate_recurrent: StepLinear | None = None
        if gate_recurrence:
            columns = len(self.gate_symbols) * hidden_dim
            self.gate_recurrent = StepLinear(columns, columns, bias=False)
            nn.init.normal_(self.gate_recurrent.weight, std=columns**-0.5)

    def step(self, inputs: Float[Tensor, "N G"], hidden: Hidden) -> Hidden:
        """inputs: (N, gates·H); hidden: (h, c), and with full gate recurrence the gates of the previous step."""
        h, c, *previous_gates = hidden
        summed = dict(zip(self.blocks, (inputs + self.recurrent(h)).chunk(self.gates, dim=1), strict=True))
        if self.gate_recurrent is not None:
            recurrent = self.gate_recurrent(torch.cat(previous_gates, dim=1)).chunk(len(self.gate_symbols), dim=1)
            for symbol, term in zip(self.gate_symbols, recurrent, strict=True):
                summed[symbol] = summed[symbol] + term
        peephole = dict(zip(self.gate_symbols, self.peepholes, strict=True))

        def gate(symbol: str, memory: Tensor) -> Tensor:
            """σ of a gate with its peephole to `memory`; 1 for a removed gate."""
            if symbol not in summed:
                return torch.ones_like(memory)
            return torch.sigmoid(summed[symbol] + peephole[symbol] * memory)

        z = torch.tanh(summed["z"]) if self.input_activation else summed["z"]
        i = gate("i", c)
        f = 1 - i if self.coupled else gate("f", c)
        c = z * i + c * f
        o = gate("o", c)
        h = o * (torch.tanh(c) if self.output_activation else c)
        return (h, c) if self.gate_recurrent is None else (h, c, i, f, o)


lstm_no_input_gate = partial(LSTMVariantCell, input_gate=False)
lstm_no_forget_gate = partial(LSTMVariantCell, forget_gate=False)
lstm_no_output_gate = partial(LSTMVariantCell, output_gate=False)
lstm_no_input_activation = partial(LSTMVariantCell, input_activation=False)
lstm_no_output_activation = partial(LSTMVariantCell, output_activation=False)
lstm_coupled_gates = partial(LSTMVariantCell, coupled=True)
lstm_full_gate_recurrence = partial(LSTMVariantCell, gate_recurrence=True)
