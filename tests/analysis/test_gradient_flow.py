"""Gradient norms by distance equal the products of the steps' Jacobians in NumPy; recording of training."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from captioner.analysis.gradient_flow import (
    gradient_norms,
    record_training,
    recurrent_matrices,
    spectral_norm,
    spectral_radius,
)
from captioner.config import CELLS, LanguageNetworkConfig, OptimConfig
from captioner.nn.decoders.language_model import LanguageModel
from captioner.training.language_model.language_model_run import prepare_language_run
from captioner.training.language_model.train_language_model import train_language_model
from captioner.training.logs import read_records
from tests.training.language_model.test_train_language_model import SMALL

Array = NDArray[np.float64]
V, H, T = 7, 4, 9


def language_model(cell: str, layers: int = 1) -> LanguageModel:
    settings = LanguageNetworkConfig(cell=cell, layers=layers, embedding_dim=5, hidden_dim=H)
    return LanguageModel(settings, V).double()


def numpy_weights(model: LanguageModel) -> dict[str, Array]:
    named = {
        "input": model.stack.inputs[0].weight,
        "bias": model.stack.inputs[0].bias,
        "recurrent": model.stack.cells[0].recurrent.weight,
        "output": model.output.words.weight,
        "output_bias": model.output.words.bias,
        "embedding": model.embedding.weight,
    }
    return {name: weight.detach().numpy() for name, weight in named.items()}


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def norms_by_jacobians(
    weights: dict[str, Array],
    tokens: list[int],
    step: Callable[[Array, Array], tuple[Array, Array]],
    states: int,
) -> list[float]:
    """Norms at distance 0 … T−1 of one stream; `step` gives the state after and its Jacobian."""
    state, jacobians = np.zeros(states * H), []
    for token in tokens[:-1]:
        state, jacobian = step(weights["input"] @ weights["embedding"][token] + weights["bias"], state)
        jacobians.append(jacobian)
    scores = weights["output"] @ state[:H] + weights["output_bias"]
    probabilities = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
    gradient = np.zeros(states * H)
    gradient[:H] = weights["output"].T @ (probabilities - np.eye(V)[tokens[-1]])
    norms = []
    for jacobian in reversed(jacobians):
        norms.append(float(np.linalg.norm(gradient)))
        gradient = jacobian.T @ gradient
    return norms


def test_rnn_is_the_product_of_diag_times_whh() -> None:
    model = language_model("rnn")
    weights, tokens = numpy_weights(model), torch.randint(V, (3, T + 1))

    def step(inputs: Array, h: Array) -> tuple[Array, Array]:
        after = np.tanh(inputs + weights["recurrent"] @ h)
        return after, np.diag(1 - after**2) @ weights["recurrent"]

    norms = gradient_norms(model, tokens)
    assert norms.shape == (3, T)
    for row, stream in zip(norms.tolist(), tokens.tolist(), strict=True):
        assert row == pytest.approx(norms_by_jacobians(weights, stream, step, 1), rel=1e-10)


def test_lstm_is_the_product_of_its_jacobian_over_h_and_c() -> None:
    model = language_model("lstm")
    weights, tokens = numpy_weights(model), torch.randint(V, (2, T + 1))

    def step(inputs: Array, state: Array) -> tuple[Array, Array]:
        """d(h', c')/d(h, c) by hand: c' = f∘c + i∘g, h' = o∘tanh(c')."""
        h, c = state[:H], state[H:]
        u = weights["recurrent"]
        a = inputs + u @ h
        i, f, o, g = sigmoid(a[:H]), sigmoid(a[H : 2 * H]), sigmoid(a[3 * H :]), np.tanh(a[2 * H : 3 * H])
        after = f * c + i * g
        by_h = (
            np.diag(c * f * (1 - f)) @ u[H : 2 * H]
            + np.diag(g * i * (1 - i)) @ u[:H]
            + np.diag(i * (1 - g**2)) @ u[2 * H : 3 * H]
        )
        by_c = np.diag(f)
        through = np.diag(o * (1 - np.tanh(after) ** 2))
        output_by_h = np.diag(np.tanh(after) * o * (1 - o)) @ u[3 * H :]
        jacobian = np.block([[through @ by_h + output_by_h, through @ by_c], [by_h, by_c]])
        return np.concatenate([o * np.tanh(after), after]), jacobian

    for row, stream in zip(gradient_norms(model, tokens).tolist(), tokens.tolist(), strict=True):
        assert row == pytest.approx(norms_by_jacobians(weights, stream, step, 2), rel=1e-10)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("residual", [False, True])
def test_gradients_equal_finite_differences(cell: str, residual: bool) -> None:
    """The last steps are repeated from a state with one component changed a little."""
    settings = LanguageNetworkConfig(cell=cell, layers=2, residual=residual, embedding_dim=5, hidden_dim=H)
    model = LanguageModel(settings, V).double().eval()
    tokens = torch.randint(V, (1, 6))
    norms = gradient_norms(model, tokens)[0]
    with torch.no_grad():
        _, state = model(tokens[:, :2], model.initial(1))
        count, step = len(state) * H, 1e-6
        moves = step * torch.eye(count, dtype=torch.float64)
        moved = torch.cat(state, dim=1) + torch.cat([moves, -moves])  # a row for each component, up and down
        logits, _ = model(tokens[:, 2:5].expand(2 * count, -1), torch.split(moved, H, dim=1))
        losses = torch.nn.functional.cross_entropy(logits[:, -1], tokens[:, 5].expand(2 * count), reduction="none")
        slopes = (losses[:count] - losses[count:]) / (2 * step)
    assert float(norms[3]) == pytest.approx(float(slopes.norm()), rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_streams_are_independent_and_parameters_get_no_gradient(cell: str) -> None:
    model = language_model(cell, layers=2)
    tokens = torch.randint(V, (3, 6))
    together = gradient_norms(model, tokens)
    assert torch.allclose(together[1:2], gradient_norms(model, tokens[1:2]), rtol=1e-10)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_scaled_orthogonal_matrix_vanishes_or_explodes_at_its_rate() -> None:
    """Linear where h is near 0: without input and bias the state stays 0, and each step multiplies by the scale."""
    model = language_model("rnn")
    with torch.no_grad():
        model.embedding.weight.zero_()
    for scale in (0.5, 1.0, 2.0):
        torch.nn.init.orthogonal_(model.stack.cells[0].recurrent.weight).data *= scale
        norms = gradient_norms(model, torch.randint(V, (1, 11)))[0]
        assert (norms[1:] / norms[:-1]).tolist() == pytest.approx([scale] * 9)
        assert spectral_norm(recurrent_matrices(model)[0]) == pytest.approx(scale, abs=1e-5)


def test_spectral_radius_equals_numpy_s_and_is_below_the_norm() -> None:
    matrix = torch.randn(6, 6)
    assert spectral_radius(matrix) == pytest.approx(np.abs(np.linalg.eigvals(matrix.numpy())).max(), abs=1e-5)
    assert spectral_radius(matrix) <= spectral_norm(matrix)
    assert spectral_radius(torch.tensor([[0.0, 9.0], [0.0, 0.0]])) == 0


def test_recurrent_matrices_of_every_gate_and_layer() -> None:
    for cell, gates in (("rnn", 1), ("lstm", 4), ("gru", 3), ("lstm_full_gate_recurrence", 4), ("mut1", 2)):
        model = language_model(cell, layers=2)
        matrices = recurrent_matrices(model)
        assert [tuple(matrix.shape) for matrix in matrices] == [(H, H)] * gates * 2
        if cell == "gru":
            assert torch.equal(matrices[-1], model.stack.cells[1].recurrent.weight[-H:])


def test_recording_does_not_change_training(tmp_path: Path) -> None:
    """The losses equal those that a run with equal settings logs, also across epochs."""
    config = replace(SMALL, trainer=replace(SMALL.trainer, max_epochs=3, log_every=1, validate_every=100))
    folder = tmp_path / "run"
    folder.mkdir()
    train_language_model(prepare_language_run(config, folder))
    logged = [record for record in read_records(folder) if record["kind"] == "train"]
    watched = record_training(prepare_language_run(config, tmp_path), steps=20, every=5)
    assert [one.step for one in watched] == [5, 10, 15, 20]
    for one in watched:
        assert one.loss == logged[one.step - 1]["loss"]
        assert one.gradient_norm == logged[one.step - 1]["gradient_norm"]
        assert one.spectral_radius > 0


def test_recording_stops_when_training_diverges(tmp_path: Path) -> None:
    run = prepare_language_run(replace(SMALL, optim=OptimConfig(clip_norm=None)), tmp_path)
    torch.nn.init.constant_(run.model.output.words.bias, float("nan"))
    (only,) = record_training(run, steps=5)
    assert only.step == 1
    assert math.isnan(only.loss)
