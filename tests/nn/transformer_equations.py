"""The equations of Vaswani et al. 2017 in NumPy, word by word and head by head."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.nn.equations import softmax

Weights = dict[str, np.ndarray]
Slots = tuple[np.ndarray, np.ndarray] | None


def heads_of(
    p: Weights, prefix: str, heads: int, x: np.ndarray, memory: np.ndarray, causal: bool, slots: Slots = None
) -> tuple[np.ndarray, np.ndarray]:
    """The results of all heads side by side (T, H), and the weights (T, P), their mean; eq. 1, section 3.2.2.

    slots: keys and values (S, H) that follow those of the memory.
    """
    q, k, v = (
        source @ p[f"{prefix}.{part}.weight"].T + p[f"{prefix}.{part}.bias"]
        for part, source in (("query", x), ("key", memory), ("value", memory))
    )
    if slots is not None:
        k, v = np.concatenate([k, slots[0]]), np.concatenate([v, slots[1]])
    q, k, v = (np.split(part, heads, axis=1) for part in (q, k, v))
    results, all_weights = [], []
    for head in range(heads):
        rows = []
        for t in range(len(x)):
            seen = t + 1 if causal else len(k[head])
            row = np.zeros(len(k[head]))
            row[:seen] = softmax(k[head][:seen] @ q[head][t] / np.sqrt(q[head].shape[1]))
            rows.append(row)
        results.append(np.array(rows) @ v[head])
        all_weights.append(rows)
    return np.concatenate(results, axis=1), np.mean(all_weights, axis=0)


def multihead(
    p: Weights, prefix: str, heads: int, x: np.ndarray, memory: np.ndarray, causal: bool, slots: Slots = None
) -> tuple[np.ndarray, np.ndarray]:
    """W_O heads + b_O, and the weights."""
    joined, weights = heads_of(p, prefix, heads, x, memory, causal, slots)
    return joined @ p[f"{prefix}.out.weight"].T + p[f"{prefix}.out.bias"], weights


def normalize(p: Weights, prefix: str, config: Any, x: np.ndarray) -> np.ndarray:
    mean = x.mean(-1, keepdims=True)
    if config.layer_norm == "unbiased":
        scaled = (x - mean) / (x.std(-1, ddof=1, keepdims=True) + 1e-6)
    else:
        scaled = (x - mean) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return p[f"{prefix}.weight"] * scaled + p[f"{prefix}.bias"]


def sublayer(p: Weights, prefix: str, number: int, config: Any, x: np.ndarray, function: Any) -> Any:
    norm = f"{prefix}.norms.{number}"
    if config.norm == "pre":
        return x + function(normalize(p, norm, config, x))
    return normalize(p, norm, config, x + function(x))


def feed_forward(p: Weights, prefix: str, x: np.ndarray) -> np.ndarray:
    hidden = np.maximum(x @ p[f"{prefix}.feed_forward.0.weight"].T + p[f"{prefix}.feed_forward.0.bias"], 0)
    return hidden @ p[f"{prefix}.feed_forward.3.weight"].T + p[f"{prefix}.feed_forward.3.bias"]


def position(p: Weights, config: Any, t: int) -> np.ndarray:
    if config.positions == "learned":
        return p["positions.weight"][t]
    row = np.zeros(config.hidden_dim)
    for j in range(config.hidden_dim // 2):
        angle = t / 10000 ** (2 * j / config.hidden_dim)
        row[2 * j : 2 * j + 2] = np.sin(angle), np.cos(angle)
    return row


def embed(p: Weights, config: Any, words: list[int]) -> np.ndarray:
    """√H · E y + p (T, H)."""
    embedded = np.array([p["embedding.weight"][word] for word in words])
    if "widen.weight" in p:
        embedded = embedded @ p["widen.weight"].T
    return np.sqrt(config.hidden_dim) * embedded + np.array([position(p, config, t) for t in range(len(words))])
