"""Recurrent layers of any cell, depth and width: a whole sequence gives the values of its steps."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.config import CELLS
from captioner.nn.layers.stack import RecurrentStack

LENGTHS = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(lambda lengths: sorted(lengths, reverse=True))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-6)])
@settings(max_examples=30, deadline=None)
@given(
    cell=st.sampled_from(list(CELLS)),
    lengths=LENGTHS,
    input_dim=st.integers(1, 5),
    hidden_dim=st.integers(1, 6),
    layers=st.integers(1, 3),
    residual=st.booleans(),
    seed=st.integers(0, 99),
)
def test_a_sequence_is_its_steps(
    dtype: torch.dtype,
    tolerance: float,
    cell: str,
    lengths: list[int],
    input_dim: int,
    hidden_dim: int,
    layers: int,
    residual: bool,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    stack = RecurrentStack(cell, input_dim, hidden_dim, layers, 0.0, residual=residual).to(dtype).eval()
    batch_sizes = [sum(length > step for length in lengths) for step in range(lengths[0])]
    words = torch.randn(sum(batch_sizes), input_dim, dtype=dtype)
    hidden = tuple(torch.randn_like(tensor) for tensor in stack.initial(words[: len(lengths)]))
    above = {layers - 1: torch.randn(len(words), stack.input_columns, dtype=dtype)} if layers > 1 else {}
    outputs, after = stack.sequence_and_state(stack.project(words), batch_sizes, hidden, above)
    assert torch.equal(stack.sequence(stack.project(words), batch_sizes, hidden, above), outputs)
    for row, length in enumerate(lengths):
        state = tuple(tensor[row : row + 1] for tensor in hidden)
        for step in range(length):
            word = sum(batch_sizes[:step]) + row
            enters = {layer: columns[word : word + 1] for layer, columns in above.items()}
            output, state = stack.step(stack.project(words[word : word + 1]), state, enters)
            torch.testing.assert_close(output[0], outputs[word], atol=tolerance, rtol=tolerance)
        if length == lengths[0]:  # active at the last step
            for ours, theirs in zip(after, state, strict=True):
                torch.testing.assert_close(ours[row], theirs[0], atol=tolerance, rtol=tolerance)
