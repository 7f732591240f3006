"""The classifier of an encoder's network by onnxruntime: see `captioner.nn.encoders.class_head.ClassHead`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from captioner.checkpoint.onnx.description import CLASS_MAP_FILE, CLASSES_FILE
from captioner.runtime.sessions import Session
from captioner.text.class_words import CLASSES


class OnnxClassHead:
    """The graphs of the classifier in `folder`; threads: of onnxruntime."""

    def __init__(self, folder: Path, threads: int) -> None:
        self._map, self._logits = (Session(folder / name, threads) for name in (CLASS_MAP_FILE, CLASSES_FILE))

    @property
    def reads(self) -> str:
        """What it reads: "shared", an output of the encoder, or "images"."""
        name: str = self._map.inputs[0]
        return name

    def scores(self, given: np.ndarray) -> OnnxClassScores:
        """What the classifier says of B images, from what it `reads`."""
        return OnnxClassScores(self, self._map.run({self.reads: given})["map"])

    def logits(self, feature_map: np.ndarray, classes: Sequence[int]) -> np.ndarray:
        """The head on a feature map (M, D, h, w): the logits (M, C) of these classes."""
        return self._logits.run({"map": feature_map, "classes": np.array(classes, np.int64)})["logits"]


@dataclass(frozen=True, eq=False)
class OnnxClassScores:
    """See `captioner.nn.encoders.class_head.ClassScores`."""

    _head: OnnxClassHead
    _map: np.ndarray

    @cached_property
    def probabilities(self) -> np.ndarray:
        """softmax(logits), (B, 1000)."""
        logits = self._head.logits(self._map, range(CLASSES))
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        found: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
        return found

    def region_logits_of_image(self, index: int, classes: Sequence[int]) -> np.ndarray:
        """(C, rows, columns): the head applied to each region of one image alone."""
        depth, rows, columns = self._map[index].shape
        regions = np.ascontiguousarray(self._map[index].reshape(depth, -1).T)[:, :, None, None]
        found: np.ndarray = self._head.logits(regions, classes).T.reshape(len(classes), rows, columns)
        return found
