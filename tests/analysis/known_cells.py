"""A language model with weights set by hand, so that the units that track a property are known."""

from __future__ import annotations

import torch

from captioner.config import LanguageNetworkConfig
from captioner.nn.decoders.language_model import LanguageModel
from captioner.text.vocabulary import Vocabulary

VOCABULARY = Vocabulary(['"', "\n", *"abcde"])
COUNTS, TOGGLES = 4, 1  # the units of the LSTM below
SURE = 30.0


def counting_and_toggling() -> LanguageModel:
    """An LSTM in which unit 4's cell counts the tokens of the line, and unit 1's is 1 inside quotes and 0 outside.

    Unit 4: c' = f∘c + i∘tanh(½) with f = i = 1, and both 0 at a line break.
    Unit 1: elsewhere f = 1, i = 0: it keeps. At a quote f = 0 and i = 1 where h was 0, i = 0 where h was not.
    All other units have small random weights.
    """
    size = len(VOCABULARY)
    torch.manual_seed(0)
    model = LanguageModel(LanguageNetworkConfig(embedding_dim=size, hidden_dim=6, dropout=0.0), size)
    cell, inputs = model.stack.cells[0], model.stack.inputs[0]
    quote, line_break = VOCABULARY.encode(['"', "\n"])
    with torch.no_grad():
        model.embedding.weight.copy_(torch.eye(size))  # one-hot: each column of the weight belongs to one token
        i, f, g, o = range(0, 24, 6)
        recurrent: torch.Tensor = cell.recurrent.weight
        for unit in (COUNTS, TOGGLES):
            for gate in (i, f, g, o):
                inputs.weight[gate + unit], inputs.bias[gate + unit], recurrent[gate + unit] = 0.0, 0.0, 0.0
            inputs.bias[o + unit] = SURE
        for gate in (i, f):
            inputs.bias[gate + COUNTS] = SURE
            inputs.weight[gate + COUNTS, line_break] = -2 * SURE
        inputs.bias[g + COUNTS] = 0.5
        inputs.bias[f + TOGGLES], inputs.bias[i + TOGGLES], inputs.bias[g + TOGGLES] = SURE, -2 * SURE, SURE
        inputs.weight[f + TOGGLES, quote] = -2 * SURE
        inputs.weight[i + TOGGLES, quote] = 3 * SURE
        recurrent[i + TOGGLES, TOGGLES] = -3 * SURE  # h = tanh(1) inside: 1 − 3·0.76 < 0
    return model
