"""The decoders' equations in NumPy, word by word, straight from the papers: the oracle of the tests in this folder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

Array = np.ndarray


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def softmax(x: Array) -> Array:
    weights = np.exp(x - x.max())
    return weights / weights.sum()


def parameters(module: nn.Module) -> dict[str, Array]:
    """Name → float64 array."""
    return {name: value.detach().double().numpy() for name, value in module.state_dict().items()}


def rnn(gates: Array, h: Array, w: Array) -> list[Array]:
    return [np.tanh(gates + w @ h)]


def lstm(gates: Array, h: Array, c: Array, w: Array) -> list[Array]:
    i, f, g, o = np.split(gates + w @ h, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return [sigmoid(o) * np.tanh(c), c]


def gru(gates: Array, h: Array, w: Array, b: Array) -> list[Array]:
    (xr, xz, xn), (hr, hz, hn) = np.split(gates, 3), np.split(w @ h, 3)
    r, z = sigmoid(xr + hr), sigmoid(xz + hz)
    n = np.tanh(xn + r * (hn + b))
    return [(1 - z) * n + z * h]


def cell_step(kind: str, p: dict[str, Array], prefix: str, gates: Array, hidden: list[Array]) -> list[Array]:
    w = p[f"{prefix}.recurrent.weight"]
    if kind == "rnn":
        return rnn(gates, *hidden, w)
    if kind == "lstm":
        return lstm(gates, *hidden, w)
    return gru(gates, *hidden, w, p[f"{prefix}.candidate_bias"])


def stack_step(
    kind: str, p: dict[str, Array], layers: int, first_gates: Array, hidden: list[list[Array]]
) -> list[list[Array]]:
    """All layers of `decoder.stack`: `first_gates` is the whole input of the lowest one."""
    after: list[list[Array]] = []
    for layer in range(layers):
        if layer:
            below = after[-1][0]
            first_gates = p[f"stack.inputs.{layer}.weight"] @ below + p[f"stack.inputs.{layer}.bias"]
        after.append(cell_step(kind, p, f"stack.cells.{layer}", first_gates, hidden[layer]))
    return after


def word_logits(p: dict[str, Array], vector: Array) -> Array:
    if "output.to_embedding.weight" in p:
        vector = p["output.to_embedding.weight"] @ vector
    return p["output.words.weight"] @ vector + p["output.words.bias"]


def recurrent_logits(decoder: nn.Module, config: Any, v: Array, words: list[int]) -> Array:
    """(T, V): h = tanh(Wxh·x + Whh·h + Wih·v) and its gated relatives, v at every step."""
    p, hidden_dim = parameters(decoder), config.hidden_dim
    states = 2 if config.cell == "lstm" else 1
    hidden = [[np.zeros(hidden_dim)] * states for _ in range(config.layers)]
    rows = []
    for word in words:
        x = p["embedding.weight"][word]
        gates = p["stack.inputs.0.weight"] @ x + p["stack.inputs.0.bias"] + p["image.weight"] @ v
        hidden = stack_step(config.cell, p, config.layers, gates, hidden)
        rows.append(word_logits(p, hidden[-1][0]))
    return np.array(rows)


def attention_logits(decoder: nn.Module, config: Any, grid: Array, words: list[int]) -> tuple[Array, Array]:
    """(T, V) and (T, P): Show, Attend and Tell, eq. 1–7 and 13."""
    p = parameters(decoder)
    states = 2 if config.cell == "lstm" else 1
    first = np.tanh(p["init.weight"] @ grid.mean(0) + p["init.bias"])
    pieces = np.split(first, states * config.layers)
    hidden = [pieces[layer * states : (layer + 1) * states] for layer in range(config.layers)]
    rows, looked = [], []
    for word in words:
        h = hidden[-1][0]
        query = p["attention.query.weight"] @ h + p["attention.query.bias"]
        energy = [p["attention.score.weight"][0] @ np.tanh(p["attention.keys.weight"] @ a + query) for a in grid]
        alpha = softmax(np.array(energy))
        z = sum(weight * a for weight, a in zip(alpha, grid, strict=True))
        if config.gate != "none":
            z = sigmoid(p["gate.weight"] @ h + p["gate.bias"]) * z
        x = p["embedding.weight"][word]
        gates = p["stack.inputs.0.weight"] @ x + p["stack.inputs.0.bias"] + p["context_to_gates.weight"] @ z
        hidden = stack_step(config.cell, p, config.layers, gates, hidden)
        h = hidden[-1][0]
        deep = x + p["hidden_to_word.weight"] @ h + p["hidden_to_word.bias"] + p["context_to_word.weight"] @ z
        rows.append(word_logits(p, deep))
        looked.append(alpha)
    return np.array(rows), np.array(looked)


def finite_difference_gradient(function: Callable[[], torch.Tensor], parameter: torch.Tensor, index: int) -> float:
    """∂function/∂parameter[index] by central differences; float64 is needed."""
    flat, step = parameter.data.view(-1), 1e-6
    before = float(flat[index])
    flat[index] = before + step
    above = float(function().detach())
    flat[index] = before - step
    below = float(function().detach())
    flat[index] = before
    return (above - below) / (2 * step)
