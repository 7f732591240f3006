"""The cells against their equations in NumPy and torch's networks, and their gradients against finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from captioner.config import CELLS
from captioner.errors import ConfigError
from captioner.nn.cells import Cell, build_cell, init_input_bias
from tests.nn.equations import cell_step, parameters

ROWS, HIDDEN = 3, 5


@pytest.mark.parametrize("name", CELLS)
def test_step_is_the_equation(name: str) -> None:
    cell = build_cell(name, HIDDEN).double()
    if name == "gru":
        nn.init.normal_(cell.candidate_bias)
    gates = torch.randn(ROWS, cell.gates * HIDDEN, dtype=torch.float64)
    hidden = tuple(torch.randn(ROWS, HIDDEN, dtype=torch.float64) for _ in range(cell.states))
    after = cell.step(gates, hidden)
    p = {f"cell.{key}": value for key, value in parameters(cell).items()}
    for row in range(ROWS):
        expected = cell_step(name, p, "cell", gates[row].numpy(), [tensor[row].numpy() for tensor in hidden])
        for ours, theirs in zip(after, expected, strict=True):
            np.testing.assert_allclose(ours[row].detach().numpy(), theirs, atol=1e-12)


@pytest.mark.parametrize("name", CELLS)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    cell = build_cell(name, HIDDEN).double()
    gates = torch.randn(ROWS, cell.gates * HIDDEN, dtype=torch.float64, requires_grad=True)
    hidden = tuple(torch.randn(ROWS, HIDDEN, dtype=torch.float64, requires_grad=True) for _ in range(cell.states))
    assert torch.autograd.gradcheck(lambda gates, *hidden: cell.step(gates, hidden), (gates, *hidden))


@pytest.mark.parametrize(("name", "theirs"), [("rnn", nn.RNN), ("lstm", nn.LSTM), ("gru", nn.GRU)])
def test_sequence_of_steps_is_torch_s_own_network(name: str, theirs: type[nn.RNN | nn.LSTM | nn.GRU]) -> None:
    ours, reference = build_cell(name, HIDDEN).double(), theirs(4, HIDDEN).double()
    with torch.no_grad():
        reference.bias_hh_l0.zero_()
        if name == "gru":  # the candidate's recurrent bias cannot be replaced by an input bias
            nn.init.normal_(ours.candidate_bias)
            reference.bias_hh_l0[2 * HIDDEN :] = ours.candidate_bias
        ours.recurrent.weight.copy_(reference.weight_hh_l0)
    x = torch.randn(7, ROWS, 4, dtype=torch.float64)
    hidden = tuple(torch.zeros(ROWS, HIDDEN, dtype=torch.float64) for _ in range(ours.states))
    outputs = []
    for step in x:
        hidden = ours.step(nn.functional.linear(step, reference.weight_ih_l0, reference.bias_ih_l0), hidden)
        outputs.append(hidden[0])
    torch.testing.assert_close(torch.stack(outputs), reference(x)[0], atol=1e-12, rtol=0)


def test_forget_gate_starts_open() -> None:
    bias = torch.randn(4 * HIDDEN)
    init_input_bias(bias, build_cell("lstm", HIDDEN))
    assert bias.view(4, HIDDEN)[1].eq(1).all()
    assert bias.sum() == HIDDEN


@pytest.mark.parametrize("name", CELLS)
def test_the_block_with_bias_one_is_the_forget_gate(name: str) -> None:
    """With everything else zero, more of c is kept where the bias of the block is 1."""
    cell = build_cell(name, HIDDEN)
    if cell.forget_gate_block is None:
        assert name not in ("lstm", "lstm_peephole", "lstm_no_input_gate", "lstm_full_gate_recurrence")
        return
    bias = torch.empty(cell.gates * HIDDEN)
    init_input_bias(bias, cell)
    zero = torch.zeros(ROWS, HIDDEN)
    hidden = (zero, torch.ones(ROWS, HIDDEN), *[zero] * (cell.states - 2))
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.zero_()
        kept = cell.step(bias.expand(ROWS, -1), hidden)[1]
    torch.testing.assert_close(kept, torch.sigmoid(torch.ones_like(kept)))


@pytest.mark.parametrize("name", CELLS)
def test_every_name_builds_a_cell(name: str) -> None:
    cell = build_cell(name, HIDDEN)
    assert isinstance(cell, Cell)
    assert cell.hidden_dim == HIDDEN


def test_relu_starts_as_identity() -> None:
    cell = build_cell("rnn_relu", HIDDEN)
    h = torch.rand(ROWS, HIDDEN)
    assert torch.equal(cell.step(torch.zeros(ROWS, HIDDEN), (h,))[0], h)


@pytest.mark.parametrize("name", sorted(set(CELLS) - {"rnn_relu", "mut1", "mut2", "mut3"}))
def test_recurrent_weights_start_orthogonal(name: str) -> None:
    cell = build_cell(name, HIDDEN)
    for block in torch.split(cell.recurrent.weight, HIDDEN):
        torch.testing.assert_close(block @ block.t(), torch.eye(HIDDEN), atol=1e-5, rtol=0)


def test_unknown_cell_names_the_near_one() -> None:
    with pytest.raises(ConfigError, match=r"model.cell='lsmt' does not exist. Did you mean lstm"):
        build_cell("lsmt", HIDDEN)
