"""The language model against min-char-rnn in NumPy, loss and gradients; and its three ways of reading."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from captioner.config import LanguageNetworkConfig
from captioner.nn.decoders.language_model import LanguageModel

Array = NDArray[np.float64]
V, H = 11, 7


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def model(cell: str = "lstm", layers: int = 1, **more: object) -> LanguageModel:
    settings = LanguageNetworkConfig(cell=cell, layers=layers, embedding_dim=5, hidden_dim=H, dropout=0.0)
    for key, value in more.items():
        setattr(settings, key, value)
    return LanguageModel(settings, V)


def min_char_rnn(
    wxh: Array, whh: Array, why: Array, bh: Array, by: Array, inputs: list[int], targets: list[int], h: Array
) -> tuple[float, dict[str, Array], Array]:
    """Forward and backward in NumPy: loss in nats, summed over the steps; gradients; the last h."""
    xs, hs, ps, loss = [], [h], [], 0.0
    for read, said in zip(inputs, targets, strict=True):
        xs.append(np.eye(V)[read])
        hs.append(np.tanh(wxh @ xs[-1] + whh @ hs[-1] + bh))
        scores = why @ hs[-1] + by
        ps.append(np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum())
        loss -= np.log(ps[-1][said])
    gradients = {
        name: np.zeros_like(w) for name, w in (("wxh", wxh), ("whh", whh), ("why", why), ("bh", bh), ("by", by))
    }
    from_later = np.zeros(H)
    for t in reversed(range(len(inputs))):
        scores = ps[t].copy()
        scores[targets[t]] -= 1
        gradients["why"] += np.outer(scores, hs[t + 1])
        gradients["by"] += scores
        before_tanh = (why.T @ scores + from_later) * (1 - hs[t + 1] ** 2)
        gradients["bh"] += before_tanh
        gradients["wxh"] += np.outer(before_tanh, xs[t])
        gradients["whh"] += np.outer(before_tanh, hs[t])
        from_later = whh.T @ before_tanh
    return loss, gradients, hs[-1]


def test_it_is_min_char_rnn() -> None:
    """A vanilla cell and a one-hot embedding, the identity: loss, every gradient and the state to 1e-10."""
    lm = model("rnn", embedding_dim=V)
    torch.nn.init.eye_(lm.embedding.weight)
    torch.nn.init.normal_(lm.output.words.bias)
    inputs, targets = np.random.default_rng(0).integers(0, V, (2, 25)).tolist()
    before = torch.randn(1, H)
    logits, (after,) = lm(torch.tensor([inputs]), (before,))
    loss = F.cross_entropy(logits[0], torch.tensor(targets), reduction="sum")
    loss.backward()
    learnt = {
        "wxh": lm.stack.inputs[0].weight,
        "whh": lm.stack.cells[0].recurrent.weight,
        "why": lm.output.words.weight,
        "bh": lm.stack.inputs[0].bias,
        "by": lm.output.words.bias,
    }
    values = {name: weight.detach().numpy() for name, weight in learnt.items()}
    expected, gradients, last = min_char_rnn(**values, inputs=inputs, targets=targets, h=before[0].numpy())
    assert abs(float(loss.detach()) - expected) < 1e-10
    assert np.abs(after[0].detach().numpy() - last).max() < 1e-10
    for name, weight in learnt.items():
        assert weight.grad is not None
        assert np.abs(weight.grad.numpy() - gradients[name]).max() < 1e-10, name


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("layers", [1, 2])
def test_windows_with_a_carried_state_are_one_long_text(cell: str, layers: int) -> None:
    lm = model(cell, layers)
    tokens = torch.randint(V, (3, 20))
    whole, last = lm(tokens, lm.initial(3))
    hidden, pieces = lm.initial(3), []
    for window in torch.split(tokens, [7, 7, 5, 1], dim=1):
        logits, hidden = lm(window, tuple(state.detach() for state in hidden))
        pieces.append(logits)
    assert torch.allclose(torch.cat(pieces, dim=1), whole, atol=1e-12)
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(hidden, last, strict=True))


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_a_step_is_a_window_of_one(cell: str) -> None:
    lm = model(cell, 2, tie_embeddings=True).eval()
    tokens = torch.randint(V, (3, 6))
    whole, last = lm(tokens, lm.initial(3))
    hidden = lm.initial(3)
    for t in range(6):
        logits, hidden = lm.step(tokens[:, t], hidden)
        assert torch.allclose(logits, whole[:, t], atol=1e-12)
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(hidden, last, strict=True))


def test_streams_do_not_see_each_other() -> None:
    lm = model()
    tokens = torch.randint(V, (4, 9))
    together, _ = lm(tokens, lm.initial(4))
    alone, _ = lm(tokens[2:3], lm.initial(1))
    assert torch.allclose(together[2:3], alone, atol=1e-12)


def test_the_returned_state_is_that_of_the_active_rows() -> None:
    """`sequence_and_state` in packed order returns the state of the rows that reach the last step."""
    stack = model("gru", 2).stack
    inputs = stack.project(torch.randn(6, 5))
    start = stack.initial(inputs[:3])
    tops, after = stack.sequence_and_state(inputs, [3, 2, 1], start)
    hidden = tuple(state[:1] for state in start)
    for row in (0, 3, 5):
        top, hidden = stack.step(inputs[row : row + 1], hidden)
    assert torch.allclose(tops[5:], top)
    assert all(torch.allclose(a, b) for a, b in zip(after, hidden, strict=True))
