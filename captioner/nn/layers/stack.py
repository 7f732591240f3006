"""Recurrent layers one above the other: the deep recurrent network of the lecture, step by step or over sequences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from captioner.nn.cells import Cell, Hidden, build_cell, init_input_bias
from captioner.nn.layers.dropout import Dropout
from captioner.nn.layers.linear import Linear
from captioner.nn.layers.step_linear import deferred_weight_gradients

_NOTHING: Mapping[int, Tensor] = MappingProxyType({})


class RecurrentStack(nn.Module):
    """L recurrent layers; layer l reads the h of layer l−1, with dropout between the layers.

    The caller projects the first layer's inputs (`project`), adds what else enters the gates, and passes the sum, of
    width `input_columns` = gates·H, to `step` or `sequence`. Both compute the same values; `sequence` multiplies the
    inputs of the layers above once for all tokens. `above` holds terms to add to the inputs of the layers above: layer
    (counted from 0) → (…, C).

    residual: from the second layer on, a layer's output is its h plus its input (He et al. 2016; for recurrent layers
    Wu et al. 2016, section 3.1).
    """

    def __init__(
        self, cell: str, input_dim: int, hidden_dim: int, layers: int, dropout: float, *, residual: bool = False
    ) -> None:
        super().__init__()
        cells = [build_cell(cell, hidden_dim) for _ in range(layers)]
        self.cells = nn.ModuleList(cells)
        self.states = cells[0].states
        self.input_columns = cells[0].gates * hidden_dim
        self.hidden_dim = hidden_dim
        self.residual = residual
        inputs = [Linear(source, self.input_columns) for source in [input_dim] + [hidden_dim] * (layers - 1)]
        self.inputs = nn.ModuleList(inputs)
        self.dropout = Dropout(dropout)
        for linear, layer_cell in zip(inputs, cells, strict=True):
            nn.init.xavier_uniform_(linear.weight)
            init_input_bias(linear.bias, layer_cell)

    def project(self, words: Float[Tensor, "... E"]) -> Float[Tensor, "... C"]:
        """The words' term in the gates of the first layer, with the bias."""
        projected: Tensor = self.inputs[0](words)
        return projected

    def initial(self, like: Tensor) -> Hidden:
        """The zero state for as many rows as `like` has: L·states tensors (N, H), layer by layer."""
        return tuple(like.new_zeros(like.shape[0], self.hidden_dim) for _ in range(self.states * len(self.cells)))

    def step(
        self, inputs: Float[Tensor, "N C"], hidden: Hidden, above: Mapping[int, Tensor] = _NOTHING
    ) -> tuple[Float[Tensor, "N H"], Hidden]:
        """One time step through all layers: the top layer's output, and the state after."""
        after: list[Tensor] = []
        outputs = inputs  # replaced by the first layer's h
        for layer, cell in enumerate(self._cells()):
            if layer:
                inputs = self._inputs_above(layer, outputs, above)
            after += cell.step(inputs, hidden[layer * self.states : (layer + 1) * self.states])
            h = after[-self.states]
            outputs = outputs + h if layer and self.residual else h
        return outputs, tuple(after)

    def sequence(
        self,
        inputs: Float[Tensor, "M C"],
        batch_sizes: Sequence[int],
        hidden: Hidden | None = None,
        above: Mapping[int, Tensor] = _NOTHING,
    ) -> Float[Tensor, "M H"]:
        """The top layer's output at all tokens, in packed order (see `captioner.nn.packing`), from `hidden` or zero."""
        if hidden is None:
            hidden = self.initial(inputs[: batch_sizes[0]])
        return self.sequence_and_state(inputs, batch_sizes, hidden, above)[0]

    def sequence_and_state(
        self,
        inputs: Float[Tensor, "M C"],
        batch_sizes: Sequence[int],
        hidden: Hidden,
        above: Mapping[int, Tensor] = _NOTHING,
    ) -> tuple[Float[Tensor, "M H"], Hidden]:
        """What `sequence` returns, and the state after the last step of the rows that reach it."""
        outputs = inputs  # replaced by the first layer's h
        after: list[Tensor] = []
        for layer, cell in enumerate(self._cells()):
            if layer:
                inputs = self._inputs_above(layer, outputs, above)
            state = hidden[layer * self.states : (layer + 1) * self.states]
            outputs_by_step = []
            with deferred_weight_gradients(self.cells[layer]):
                for step_inputs in torch.split(inputs, list(batch_sizes)):
                    state = cell.step(step_inputs, tuple(tensor[: len(step_inputs)] for tensor in state))
                    outputs_by_step.append(state[0])
            h = torch.cat(outputs_by_step)
            outputs = outputs + h if layer and self.residual else h
            after += state
        return outputs, tuple(after)

    def _inputs_above(self, layer: int, below: Tensor, above: Mapping[int, Tensor]) -> Tensor:
        """The inputs of a layer above the first: the projected output of the layer below, plus `above`."""
        inputs: Tensor = self.inputs[layer](self.dropout(below))
        return inputs + above[layer] if layer in above else inputs

    def _cells(self) -> list[Cell]:
        return cast("list[Cell]", list(self.cells))
