"""The decoders' equations in NumPy, word by word, as in the papers: the reference of the tests in this folder."""

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


def greff(gates: Array, hidden: list[Array], p: dict[str, Array], prefix: str, variant: str) -> list[Array]:
    """The LSTM of Greff et al. 2017 with peepholes, and its variants by the names of `model.cell`."""
    h, c = hidden[:2]
    names = [
        n
        for n in "ifzo"
        if (n, variant)
        not in {("i", "no_input_gate"), ("f", "no_forget_gate"), ("f", "coupled_gates"), ("o", "no_output_gate")}
    ]
    sums = dict(zip(names, np.split(gates + p[f"{prefix}.recurrent.weight"] @ h, len(names)), strict=True))
    peep = dict(zip([n for n in names if n != "z"], p[f"{prefix}.peepholes"], strict=True))
    if variant == "full_gate_recurrence":
        seen = np.split(p[f"{prefix}.gate_recurrent.weight"] @ np.concatenate(hidden[2:]), 3)
        for n, own in zip("ifo", seen, strict=True):
            sums[n] = sums[n] + own
    z = sums["z"] if variant == "no_input_activation" else np.tanh(sums["z"])
    i = sigmoid(sums["i"] + peep["i"] * c) if "i" in sums else 1.0
    f = 1 - i if variant == "coupled_gates" else sigmoid(sums["f"] + peep["f"] * c) if "f" in sums else 1.0
    c = z * i + c * f
    o = sigmoid(sums["o"] + peep["o"] * c) if "o" in sums else 1.0
    y = (c if variant == "no_output_activation" else np.tanh(c)) * o
    return [y, c, i, f, o] if variant == "full_gate_recurrence" else [y, c]


def mutation(kind: str, gates: Array, h: Array, p: dict[str, Array], prefix: str) -> list[Array]:
    """MUT1–3 of Jozefowicz et al. 2015."""
    w = {
        name: p[f"{prefix}.{name}.weight"]
        for name in ("update", "reset", "candidate")
        if f"{prefix}.{name}.weight" in p
    }
    x_z, x_r, x_h = np.split(gates, 3)
    r = sigmoid(x_r + w["reset"] @ h)
    if kind == "mut1":
        z = sigmoid(x_z)
        new = np.tanh(w["candidate"] @ (r * h) + np.tanh(x_h) + p[f"{prefix}.candidate_bias"])
    else:
        z = sigmoid(x_z + w["update"] @ (h if kind == "mut2" else np.tanh(h)))
        new = np.tanh(w["candidate"] @ (r * h) + x_h)
    return [new * z + h * (1 - z)]


def cell_step(kind: str, p: dict[str, Array], prefix: str, gates: Array, hidden: list[Array]) -> list[Array]:
    if kind.startswith("mut"):
        return mutation(kind, gates, *hidden, p, prefix)
    w = p[f"{prefix}.recurrent.weight"]
    if kind in ("rnn", "rnn_relu"):
        return rnn(gates, *hidden, w) if kind == "rnn" else [np.maximum(gates + w @ hidden[0], 0)]
    if kind in ("lstm", "lstm_forget_bias_0"):
        return lstm(gates, *hidden, w)
    if kind == "lstm_maxout":
        i, f, o, first, second = np.split(gates + w @ hidden[0], 5)
        c = sigmoid(f) * hidden[1] + sigmoid(i) * np.maximum(first, second)
        return [sigmoid(o) * np.tanh(c), c]
    if kind.startswith("lstm_"):
        return greff(gates, hidden, p, prefix, kind.removeprefix("lstm_"))
    return gru(gates, *hidden, w, p[f"{prefix}.candidate_bias"])


def states_of(kind: str) -> int:
    """The number of state vectors of a cell."""
    return {"lstm_full_gate_recurrence": 5}.get(kind, 2 if kind.startswith("lstm") else 1)


def stack_step(
    kind: str,
    p: dict[str, Array],
    layers: int,
    first_gates: Array,
    hidden: list[list[Array]],
    above: dict[int, Array] | None = None,
    residual: bool = False,
) -> tuple[Array, list[list[Array]]]:
    """All layers of `decoder.stack`: the output and the state. `first_gates`: the whole input of the lowest layer."""
    after: list[list[Array]] = []
    output = first_gates
    for layer in range(layers):
        gates = first_gates
        if layer:
            gates = p[f"stack.inputs.{layer}.weight"] @ output + p[f"stack.inputs.{layer}.bias"]
            gates = gates + (above or {}).get(layer, 0.0)
        after.append(cell_step(kind, p, f"stack.cells.{layer}", gates, hidden[layer]))
        output = after[-1][0] + (output if residual and layer else 0.0)
    return output, after


def word_logits(p: dict[str, Array], vector: Array) -> Array:
    if "output.to_embedding.weight" in p:
        vector = p["output.to_embedding.weight"] @ vector
    return p["output.words.weight"] @ vector + p["output.words.bias"]


def recurrent_logits(decoder: nn.Module, config: Any, v: Array, words: list[int]) -> Array:
    """(T, V): h = tanh(Wxh·x + Whh·h + Wih·v), and the same with other cells and injections."""
    p, hidden_dim = parameters(decoder), config.hidden_dim
    states = states_of(config.cell)
    hidden = [[np.zeros(hidden_dim)] * states for _ in range(config.layers)]
    image = p["image.weight"] @ v + p.get("image.bias", 0.0)
    if config.image_projection == "batch_norm":  # in eval mode
        norm = {key: value.numpy() for key, value in decoder.image.batch_norm.state_dict().items()}  # type: ignore[operator]
        image = norm["weight"] * (image - norm["running_mean"]) / np.sqrt(norm["running_var"] + 1e-5) + norm["bias"]

    def read(x: Array, image_part: Array | float) -> Array:
        nonlocal hidden
        first = p["stack.inputs.0.weight"] @ x + p["stack.inputs.0.bias"]
        above = {}
        if config.image_layer == 1:
            first = first + image_part
        else:
            above = {config.image_layer - 1: image_part}
        output, hidden = stack_step(config.cell, p, config.layers, first, hidden, above, config.residual)
        return output

    if config.injection == "init":
        pieces = np.split(np.tanh(image), states * config.layers)
        hidden = [pieces[layer * states : (layer + 1) * states] for layer in range(config.layers)]
    elif config.injection == "pre":
        read(image, 0.0)
    rows = []
    for t, word in enumerate(words):
        enters = config.injection == "par" or (config.injection == "first" and t == 0)
        h = read(p["embedding.weight"][word], image if enters else 0.0)
        if config.injection == "merge":
            h = np.concatenate([h, np.tanh(image)])
        rows.append(word_logits(p, h))
    return np.array(rows)


def energies(config: Any, p: dict[str, Array], keys: list[Array], h: Array) -> Array:
    """e of every key for the query h; `keys`: W a of the regions (and that of a sentinel)."""
    if config.attention == "none":
        return np.zeros(len(keys))
    query = p["attention.query.weight"] @ h + p["attention.query.bias"]
    if config.score == "dot":
        return np.array([query @ key for key in keys]) / np.sqrt(config.attention_dim)
    activation = np.tanh if config.score == "additive" else lambda x: np.maximum(x, 0)
    return np.array([p["attention.score.weight"][0] @ activation(key + query) for key in keys])


def attention_keys(config: Any, p: dict[str, Array], grid: Array) -> list[Array]:
    """W a of every region."""
    return [a if config.attention == "none" else p["attention.keys.weight"] @ a for a in grid]


def attention_logits(
    decoder: nn.Module, config: Any, grid: Array, words: list[int], regions: list[int] | None = None
) -> tuple[Array, Array]:
    """(T, V) and (T, P): Show, Attend and Tell, eq. 1–7, 13; with `regions`, the context is one region per word (9)."""
    p = parameters(decoder)
    states = states_of(config.cell)
    if config.grid_dim:
        grid = np.array([np.maximum(p["grid.weight"] @ a + p["grid.bias"], 0) for a in grid])
    first = p["init.weight"] @ grid.mean(0) + p["init.bias"]
    first = np.tanh(first) if config.initial_state == "tanh" else first
    pieces = np.split(first, states * config.layers)
    hidden = [pieces[layer * states : (layer + 1) * states] for layer in range(config.layers)]
    rows, attention_rows = [], []
    keys = attention_keys(config, p, grid)
    for t, word in enumerate(words):
        h = hidden[-1][0]
        alpha = softmax(energies(config, p, keys, h))
        z = alpha @ grid if regions is None else grid[regions[t]]
        if config.gate != "none":
            z = sigmoid(p["gate.weight"] @ h + p["gate.bias"]) * z
        x = p["embedding.weight"][word]
        gates = p["stack.inputs.0.weight"] @ x + p["stack.inputs.0.bias"] + p["context_to_gates.weight"] @ z
        h, hidden = stack_step(config.cell, p, config.layers, gates, hidden, residual=config.residual)
        if config.output == "hidden":
            rows.append(word_logits(p, h))
            attention_rows.append(alpha)
            continue
        deep = x + p["hidden_to_word.weight"] @ h + p["hidden_to_word.bias"] + p["context_to_word.weight"] @ z
        rows.append(word_logits(p, deep))
        attention_rows.append(alpha)
    return np.array(rows), np.array(attention_rows)


def adaptive_logits(decoder: nn.Module, config: Any, grid: Array, words: list[int]) -> tuple[Array, Array]:
    """(T, V) and (T, P): Lu et al. 2017, eq. 4 and 9–13; the P weights sum to 1 − β."""
    p = parameters(decoder)
    v = np.array([np.maximum(p["grid.weight"] @ a + p["grid.bias"], 0) for a in grid])
    v_g = np.maximum(p["image.weight"] @ grid.mean(0) + p["image.bias"], 0)
    keys = attention_keys(config, p, v)
    hidden = [[np.zeros(config.hidden_dim)] * states_of(config.cell) for _ in range(config.layers)]
    rows, attention_rows = [], []
    for word in words:
        x, before = p["embedding.weight"][word], hidden[-1][0]
        gates = p["stack.inputs.0.weight"] @ x + p["stack.inputs.0.bias"] + p["image_to_gates.weight"] @ v_g
        h, hidden = stack_step(config.cell, p, config.layers, gates, hidden, residual=config.residual)
        memory = hidden[-1][1]
        g = sigmoid(
            p["word_to_sentinel.weight"] @ x
            + p["word_to_sentinel.bias"]
            + p["image_to_sentinel.weight"] @ v_g
            + p["hidden_to_sentinel.weight"] @ before
        )
        s = g * np.tanh(memory)
        alpha = softmax(energies(config, p, [*keys, p["sentinel_key.weight"] @ s], h))
        rows.append(word_logits(p, alpha[:-1] @ v + alpha[-1] * s + h))
        attention_rows.append(alpha[:-1])
    return np.array(rows), np.array(attention_rows)


def finite_difference_gradient(function: Callable[[], torch.Tensor], parameter: torch.Tensor, index: int) -> float:
    """∂function/∂parameter[index] by central differences, in float64."""
    flat, step = parameter.data.view(-1), 1e-6
    before = float(flat[index])
    with torch.no_grad():
        flat[index] = before + step
        above = float(function())
        flat[index] = before - step
        below = float(function())
        flat[index] = before
    return (above - below) / (2 * step)
