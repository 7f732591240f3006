"""The LSTM with peepholes, and what becomes of it when one part is taken away or changed.

Greff, Srivastava, Koutník, Steunebrink & Schmidhuber 2017, "LSTM: A search space odyssey", section 2 and appendix A:

    z  = tanh(x_z + R_z·h)                         block input
    i  = σ(x_i + R_i·h + p_i∘c)                    input gate
    f  = σ(x_f + R_f·h + p_f∘c)                    forget gate
    c' = z∘i + c∘f                                 cell
    o  = σ(x_o + R_o·h + p_o∘c')                   output gate
    h' = o∘tanh(c')                                block output

The variants, by the paper's names: NIG i = 1; NFG f = 1; NOG o = 1; NIAF no tanh in z; NOAF no tanh in h'; CIFG
f = 1 − i; FGR the gates also see all gates of the step before, + R'·(i, f, o). (NP, no peepholes, is `LSTMCell`.)
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from captioner.nn.cells.protocol import Hidden, init_orthogonal_blocks
from captioner.nn.layers.step_linear import StepLinear


class LSTMVariantCell(nn.Module):
    """The vanilla LSTM of Greff et al., and by one flag each of its variants.

    Columns are in the order i, f, z, o, without those of gates that are not there.
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
        self.blocks = [name for name, there in present.items() if there]
        self.gate_names = [name for name in self.blocks if name != "z"]
        self.gates = len(self.blocks)
        self.forget_gate_block: int | None = self.blocks.index("f") if "f" in self.blocks else None
        self.states = 2 + (len(self.gate_names) if gate_recurrence else 0)
        self.recurrent = StepLinear(hidden_dim, self.gates * hidden_dim, bias=False)
        self.peepholes = nn.Parameter(0.1 * torch.randn(len(self.gate_names), hidden_dim))
        init_orthogonal_blocks(self.recurrent.weight, hidden_dim)
        self.gate_recurrent: StepLinear | None = None
        if gate_recurrence:
            columns = len(self.gate_names) * hidden_dim
            self.gate_recurrent = StepLinear(columns, columns, bias=False)
            nn.init.normal_(self.gate_recurrent.weight, std=columns**-0.5)

    def step(self, inputs: Float[Tensor, "N G"], hidden: Hidden) -> Hidden:
        """One word: inputs (N, gates·H), hidden (h, c), and with full gate recurrence the gates of the step before."""
        h, c, *gates_before = hidden
        summed = dict(zip(self.blocks, (inputs + self.recurrent(h)).chunk(self.gates, dim=1), strict=True))
        if self.gate_recurrent is not None:
            seen = self.gate_recurrent(torch.cat(gates_before, dim=1)).chunk(len(self.gate_names), dim=1)
            for name, own in zip(self.gate_names, seen, strict=True):
                summed[name] = summed[name] + own
        peephole = dict(zip(self.gate_names, self.peepholes, strict=True))

        def gate(name: str, cell: Tensor) -> Tensor:
            """σ of a gate that looks at `cell`; a gate that is not there is open."""
            return torch.sigmoid(summed[name] + peephole[name] * cell) if name in summed else torch.ones_like(cell)

        z = torch.tanh(summed["z"]) if self.input_activation else summed["z"]
        i = gate("i", c)
        f = 1 - i if self.coupled else gate("f", c)
        c = z * i + c * f
        o = gate("o", c)
        h = o * (torch.tanh(c) if self.output_activation else c)
        return (h, c) if self.gate_recurrent is None else (h, c, i, f, o)
