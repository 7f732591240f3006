"""The output layer starts at the frequencies of the words that it is to predict."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from captioner.nn.layers.output import WordOutput


@pytest.mark.parametrize(("tied", "hidden_dim"), [(False, 5), (True, 5), (True, 3)])
def test_of_a_zero_vector_it_predicts_the_frequencies(tied: bool, hidden_dim: int) -> None:
    """Laplace's rule: (c + 1) / (Σc + V), so that a token without occurrences has a finite logit."""
    output = WordOutput(hidden_dim, nn.Embedding(7, 5), 0.0, tied)
    counts = torch.tensor([0, 0, 12, 1, 5, 30, 2])
    output.start_from_frequencies(counts)
    predicted = torch.softmax(output(torch.zeros(2, hidden_dim)), dim=1).detach().numpy()
    expected = (counts.numpy() + 1) / (50 + 7)
    np.testing.assert_allclose(predicted, [expected, expected], rtol=1e-6)


def test_only_the_bias_changes() -> None:
    output = WordOutput(5, nn.Embedding(7, 5), 0.0, False)
    before = output.words.weight.detach().clone()
    output.start_from_frequencies(torch.arange(7))
    torch.testing.assert_close(output.words.weight, before, rtol=0, atol=0)
    assert output.words.bias.requires_grad
