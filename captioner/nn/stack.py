"""Cells one above the other: the deep recurrent network of the lecture, as steps or as whole sequences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from captioner.nn.cells import Cell, Hidden, build_cell, start_input_bias
from captioner.nn.step_linear import weight_gradients_once


class RecurrentStack(nn.Module):
    """L cells; layer l reads the h of layer l−1, with dropout between the layers.

    The caller multiplies the first layer's inputs (`project`), adds what else enters, and hands the
    sum to `step` or `sequence`. The two give the same numbers; `sequence` does the products of the
    layers above once for all words. `input_columns` = gates·H is how wide that sum is.
    """

    def __init__(self, cell: str, input_dim: int, hidden_dim: int, layers: int, dropout: float) -> None:
        super().__init__()
        cells = [build_cell(cell, hidden_dim) for _ in range(layers)]
        self.states = cells[0].states
        self.input_columns = cells[0].gates * hidden_dim
        self.hidden_dim = hidden_dim
        inputs = [nn.Linear(source, self.input_columns) for source in [input_dim] + [hidden_dim] * (layers - 1)]
        self.cells, self.inputs = nn.ModuleList(cells), nn.ModuleList(inputs)
        self.dropout = nn.Dropout(dropout)
        for linear in inputs:
            nn.init.xavier_uniform_(linear.weight)
            start_input_bias(linear.bias, cell, hidden_dim)

    def project(self, words: Float[Tensor, "... E"]) -> Float[Tensor, "... C"]:
        """What the words contribute to the gates of the first layer, bias included."""
        projected: Tensor = self.inputs[0](words)
        return projected

    def initial(self, like: Tensor) -> Hidden:
        """The zero state for as many rows as `like` has: L·states tensors (N, H), layer by layer."""
        return tuple(like.new_zeros(len(like), self.hidden_dim) for _ in range(self.states * len(self.cells)))

    def step(self, inputs: Float[Tensor, "N C"], hidden: Hidden) -> tuple[Float[Tensor, "N H"], Hidden]:
        """One word through all layers: the top layer's h, and the state after."""
        after: list[Tensor] = []
        for layer, cell in enumerate(self._cells()):
            if layer:
                inputs = self.inputs[layer](self.dropout(after[-self.states]))
            after += cell.step(inputs, hidden[layer * self.states : (layer + 1) * self.states])
        return after[-self.states], tuple(after)

    def sequence(
        self, inputs: Float[Tensor, "M C"], batch_sizes: Sequence[int], hidden: Hidden | None = None
    ) -> Float[Tensor, "M H"]:
        """All words in packed order (see `packing`), from `hidden` (default: zero): the top layer's h at each."""
        if hidden is None:
            hidden = self.initial(inputs[: batch_sizes[0]])
        return self.sequence_and_state(inputs, batch_sizes, hidden)[0]

    def sequence_and_state(
        self, inputs: Float[Tensor, "M C"], batch_sizes: Sequence[int], hidden: Hidden
    ) -> tuple[Float[Tensor, "M H"], Hidden]:
        """As `sequence`, and the state of the rows that are there at the last step, after it."""
        outputs = inputs
        after: list[Tensor] = []
        for layer, cell in enumerate(self._cells()):
            if layer:
                inputs = self.inputs[layer](self.dropout(outputs))
            state = hidden[layer * self.states : (layer + 1) * self.states]
            outputs_by_step = []
            with weight_gradients_once(self.cells[layer]):
                for step_inputs in torch.split(inputs, list(batch_sizes)):
                    state = cell.step(step_inputs, tuple(tensor[: len(step_inputs)] for tensor in state))
                    outputs_by_step.append(state[0])
            outputs = torch.cat(outputs_by_step)
            after += state
        return outputs, tuple(after)

    def _cells(self) -> list[Cell]:
        return cast("list[Cell]", list(self.cells))
