"""The rows of a search in NumPy: one step of an ONNX decoder for all of them, and the best tokens of each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from captioner.config import DecodeConfig
from captioner.decode.forbidden_tokens import MASKED, forbidden_next, never_allowed
from captioner.decode.hypothesis import PartialHypothesis
from captioner.runtime.sessions import Session
from captioner.text.phrases import PhraseStatistics
from captioner.text.vocabulary import SpecialTokens
from captioner.text.word_preferences import Transfer

State = Mapping[str, np.ndarray]


class OnnxRows:
    """See `captioner.decode.beam_search.DecoderRows`.

    The graph has one entry of every image's tensors per row, so these are repeated when the number of rows of an image
    changes, and not at each step.
    """

    def __init__(
        self,
        step: Session,
        state: State,
        images: int,
        config: DecodeConfig,
        special: SpecialTokens,
        phrases: PhraseStatistics | None,
    ) -> None:
        self._step, self._config, self._special, self._phrases = step, config, special, phrases
        self._of_images = {name: part for name, part in state.items() if name.startswith("image_")}
        self._repeated = self._of_images  # one entry per row
        self._of_rows = {name: part for name, part in state.items() if name.startswith("row_")}
        self._images, self._width = images, 1
        self._logits = np.empty((0, 0), np.float32)

    def step(self, tokens: Sequence[int]) -> Any:
        found = self._step.run({"tokens": np.array(tokens, np.int64), **self._repeated, **self._of_rows})
        self._logits = found["logits"].astype(np.float32, copy=False)
        self._of_rows = {
            name.removeprefix("next_"): part for name, part in found.items() if name.startswith("next_row_")
        }
        return found.get("attention")

    def move_probability(self, transfers: Sequence[Sequence[Transfer]]) -> None:
        for logits, of_row in zip(self._logits, transfers, strict=True):
            for target, sources, share in of_row:
                tokens = list(sources)
                moved = log_sum_exp(logits[None, tokens])[0] + math.log(share)
                logits[target] = np.logaddexp(logits[target], moved)
                logits[tokens] += math.log1p(-share)

    def best_tokens(
        self, hypotheses: Sequence[PartialHypothesis], count: int, gains: Sequence[Mapping[int, float]] | None = None
    ) -> tuple[list[list[int]], list[list[float]]]:
        logits = self._logits
        total = log_sum_exp(logits)
        logits[:, never_allowed(self._config, self._special)] = MASKED
        rows, tokens = forbidden_next(hypotheses, self._config, self._phrases)
        if rows:
            logits[rows, tokens] = MASKED
        if len(hypotheses[0].tokens) < self._config.min_length:
            end = logits[:, self._special.end].copy()
            logits[:, self._special.end] = MASKED
            only_end = logits.max(axis=1) == MASKED
            logits[only_end, self._special.end] = end[only_end]
        for row, of_row in enumerate(gains or ()):
            logits[row, list(of_row)] += np.fromiter(of_row.values(), np.float32, len(of_row))
        best = top_tokens(logits, count)
        log_probs = np.take_along_axis(logits, best, axis=1) - total[:, None]
        return best.tolist(), log_probs.tolist()

    def select(self, rows: Sequence[int], images: Sequence[int] | None) -> None:
        self._of_rows = {name: part[rows] for name, part in self._of_rows.items()}
        if images is not None:
            self._of_images = {name: part[images] for name, part in self._of_images.items()}
            self._images = len(images)
        width = len(rows) // self._images
        if images is not None or width != self._width:
            self._width = width
            self._repeated = {name: part.repeat(width, axis=0) for name, part in self._of_images.items()}

    def stack(self, weights: Sequence[Any]) -> Any:
        return np.stack(list(weights))


def log_sum_exp(logits: np.ndarray) -> np.ndarray:
    """(N, V) → (N,): ln Σ e^x, without overflow."""
    largest = logits.max(axis=1)
    total: np.ndarray = np.log(np.exp(logits - largest[:, None]).sum(axis=1)) + largest
    return total


def top_tokens(logits: np.ndarray, count: int) -> np.ndarray:
    """(N, V) → (N, K): the K = min(count, V) tokens of the highest logits; among equals the lowest ids come first."""
    count = min(count, logits.shape[1])
    smallest = -np.partition(-logits, count - 1, axis=1)[:, count - 1]
    best = np.empty((len(logits), count), np.int64)
    for row, values in enumerate(logits):
        candidates = np.flatnonzero(values >= smallest[row])  # in the order of their ids
        if len(candidates) < count:  # NaN: the caller reports it
            candidates = np.arange(len(values))
        best[row] = candidates[np.argsort(-values[candidates], kind="stable")[:count]]
    return best
